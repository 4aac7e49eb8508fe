"""Reads records, and hears of their changes, in one order on one connection to Redis."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.asyncio import Redis

from service.redis.deadline import Deadline

_CHUNK: Final = 500  # keys in one command, so that a reconnect does not stall Redis


class _Push(list[Any]):
    """What Redis sent unasked: `["message", channel, payload]` and the like."""


async def _mark_push(parts: Any) -> _Push:
    return _Push(parts)


class Feed:
    """Subscribes to keys and reads them on the same connection, in RESP3.

    So whatever comes for a key after the reading is newer than the reading, and nothing that is
    published in between is missed. A feed lives as long as its connection.
    """

    def __init__(
        self, client: Redis, *, timeout: float, changed: Callable[[str, bytes | None], None]
    ) -> None:
        pool = client.connection_pool
        self._connection: Any = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
        # A node of a cluster that lost the keys answers a PING, though it may hear of no changes.
        hash_slot = getattr(self._connection, "hash_slot", None)
        self._question = ("PING",) if hash_slot is None else ("MGET", hash_slot.key)
        self._timeout = timeout
        self._changed = changed
        self._added: dict[str, None] = {}
        self._dropped: dict[str, None] = {}
        self._requested: deque[list[str]] = deque()
        self._wake = asyncio.Event()
        self._stopping = False

    def add(self, keys: Iterable[str]) -> None:
        """Give what is stored under the keys now, and from then on whatever is published."""
        for key in keys:
            # Takes back a drop that Redis was not told of yet; the key is read again all the same.
            self._dropped.pop(key, None)
            self._added[key] = None
        self._wake.set()

    def drop(self, key: str) -> None:
        """Give no more of a key."""
        self._added.pop(key, None)
        self._dropped[key] = None
        self._wake.set()

    def stop(self) -> None:
        """End `run`. Call this before cancelling it: a write may lose the cancellation.

        redis-py sends under `asyncio.wait_for`. On Python 3.11 that returns, instead of raising
        CancelledError, when its awaitable is done at the moment of the cancellation.
        """
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until the connection is lost, or `stop` is called.

        Raises RedisError, OSError or TimeoutError.
        """
        try:
            async with Deadline(self._timeout):
                await self._connection.connect()
            parser = self._connection._parser  # noqa: SLF001  as redis-py's own PubSub does
            parser.set_pubsub_push_handler(_mark_push)
            await self._write_and_read()
        finally:
            with contextlib.suppress(Exception):  # the connection is lost either way
                await self._connection.disconnect(nowait=True)

    async def _write_and_read(self) -> None:
        """Do both until one of them ends, and end the other. Raises what the first one did.

        No TaskGroup: before Python 3.13 a caller that goes on after its error stays cancelled.
        """
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]
        try:
            first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in first:
            task.result()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            if self._stopping:
                return
            self._wake.clear()
            added, dropped = [*self._added], [*self._dropped]
            self._added.clear()
            self._dropped.clear()
            commands: list[tuple[Any, ...]] = [("UNSUBSCRIBE", *keys) for keys in _chunks(dropped)]
            for keys in _chunks(added):
                commands += [("SUBSCRIBE", *keys), ("MGET", *keys)]
                self._requested.append(keys)
            if not commands:  # woken by `_read`, which wants to know whether Redis still answers
                commands.append(self._question)
                self._requested.append([])
            await self._connection.send_packed_command(
                self._connection.pack_commands(commands), check_health=False
            )

    async def _read(self) -> None:
        while not self._stopping:
            answer = await self._connection.read_response(
                timeout=self._timeout, push_request=True, disconnect_on_error=False
            )
            if answer is None:  # nothing came for as long as the timeout
                if self._requested:
                    raise TimeoutError(f"no answer within {self._timeout:g} s")
                self._wake.set()
            elif not isinstance(answer, _Push):
                for key, stored in zip(self._requested.popleft(), answer, strict=False):
                    self._changed(key, stored)
            elif answer[0] == b"message":
                self._changed(answer[1].decode(), answer[2])


def _chunks(keys: list[str]) -> Iterable[list[str]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
