"""Finds this process's leases on a broker: they outlive every connection and channel."""

import atexit
import os
import threading
from functools import partial
from typing import Any, Final

from celery import current_app
from kombu.utils import symbol_by_name
from redis import Redis

from service.broker.dead_letters.failure import store_failure
from service.broker.delivery import LeaseOptions
from service.broker.leases.leases import Leases
from service.redis.keys import BrokerKeys

# Kombu makes a new transport for every connection, and Celery a new connection after every loss,
# while jobs go on: so deliveries belong to the process, which has to remember them.
_leases: Final[dict[tuple[Any, ...], Leases]] = {}
_lock = threading.Lock()
_LEAVE_WITHIN: Final = 2.0  # seconds


def _forget() -> None:
    """A forked child holds none of its parent's deliveries, and has none of its threads."""
    global _lock  # noqa: PLW0603 - the parent may have been forked while another thread held it
    _lock = threading.Lock()
    _leases.clear()


def leave_brokers() -> None:
    """Return all that the process still holds, as its last act."""
    with _lock:
        found = list(_leases.values())
    for leases in found:
        leases.leave(_LEAVE_WITHIN)


os.register_at_fork(after_in_child=_forget)
# What runs in a thread can't be stopped: it may end well until the process ends.
atexit.register(leave_brokers)


def leases_of(channel: Any) -> Leases:
    """The leases of the broker that a channel is connected to; started on first use."""
    info = channel.connection.client
    broker = (info.hostname, info.port, info.virtual_host, tuple(info.alt or ()))
    keys = keys_of(channel)
    with _lock:
        if (found := _leases.get((*broker, keys))) is None:
            found = _leases[(*broker, keys)] = _open(channel, keys)
            found.start()
    return found


def keys_of(channel: Any) -> BrokerKeys:
    """The keys of the broker that a channel is connected to."""
    return BrokerKeys(
        unacked=channel.unacked_key,
        index=channel.unacked_index_key,
        prefix=channel.global_keyprefix or "",
        separator=channel.sep,
        priority_steps=tuple(channel.priority_steps),
    )


def lease_age() -> float | None:
    """Seconds since this process renewed its leases, the oldest ones; None if it has none."""
    with _lock:
        found = list(_leases.values())
    return max((leases.age for leases in found), default=None)


def gives_back(tag: str) -> bool:
    """Return a delivery of this process if its lease may be over; whether it was returned."""
    return any(leases.gives_back(tag) for leases in tuple(_leases.values()))


def lease_options(channel: Any) -> LeaseOptions:
    """The options of a channel, which come from `broker_transport_options`."""
    lost = channel.on_lease_lost
    return LeaseOptions(
        lease=float(channel.lease),
        stock=float(channel.visibility_timeout),
        max_deliveries=int(channel.max_deliveries),
        on_lost=symbol_by_name(lost) if isinstance(lost, str) else lost,
    )


def _open(channel: Any, keys: BrokerKeys) -> Leases:
    options = lease_options(channel)
    # A hung Redis must be noticed while there is still lease left to try again.
    timeout = min(5.0, max(0.5, options.lease / 6))
    client = Redis(connection_pool=channel.lease_pool(timeout))
    # In the thread of the channel: Celery's current app is not the same in every thread.
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - opens the proxy
    return Leases(client, keys, options, fail=partial(store_failure, app))
