"""Has the channels of a process share connections: all but those that wait for messages.

Kombu gives each channel a pool of its own, and Celery's worker has five channels; what they publish
and declare comes from one thread, as a rule.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

MAX_CONNECTIONS: Final = 1000  # of all channels, if no setting says so; each of Kombu's has ten


class SharedPools:
    """The pools of a process by broker. A pool is closed with the last channel that uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[tuple[Any, ...], tuple[Any, WeakSet[Any]]] = {}

    def borrow(self, channel: Any, make: Callable[[], Any]) -> Any:
        """The pool of the channel's broker, which is made if no other channel uses one."""
        key = _broker_of(channel)
        with self._lock:
            if key not in self._pools:
                self._pools[key] = make(), WeakSet()
            pool, users = self._pools[key]
            users.add(channel)
        return pool

    def give_back(self, channel: Any, pool: Any) -> None:
        """Say that the channel does not use the pool any more."""
        with self._lock:
            for key, (each, users) in [*self._pools.items()]:
                if each is pool:
                    users.discard(channel)
                    if not users:
                        del self._pools[key]
                        pool.disconnect()

    def forget(self) -> None:
        """Begin with none: a forked child must not use what its parent uses."""
        self.__init__()  # type: ignore[misc]  # the lock too: a thread may have held it


POOLS: Final = SharedPools()
os.register_at_fork(after_in_child=POOLS.forget)


def _broker_of(channel: Any) -> tuple[Any, ...]:
    """What tells the connections of one channel from those of another."""
    info = channel.connection.client
    address = (info.hostname, info.port, info.virtual_host, tuple(info.alt or ()))
    user = (info.userid, info.password, repr(info.credential_provider))
    return (type(channel), address, user, repr(info.ssl), repr(info.transport_options))
