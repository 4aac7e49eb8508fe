"""Sends in whole what is too long for one step of Redis: puts it aside, commits, then applies it.

What is put aside and not committed expires. What is committed is applied in small steps, by whoever
committed it, or by any other process of the app where that one has ended.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys
from service.redis.script import Script, ScriptConnection
from service.redis.transient import wrote_nothing

logger: Final = logging.getLogger(__name__)

_COMMIT: Final = Script.load("service.jobs.sending", "commit")
_APPLY: Final = Script.load("service.jobs.sending", "apply", "enqueue")
_CLAIM: Final = Script.load("service.jobs.sending", "claim")
_KEPT: Final = 60  # seconds, beyond the timeout, for which a journal waits for its next batch
_ABANDONED: Final = 3  # timeouts without a step, after which another process goes on
_LOOK_AGAIN: Final = 10  # timeouts between two looks of a process; each looks by itself


class Journals:
    """The journals of an app. All but `finish_abandoned` raise BrokerUnavailableError."""

    def __init__(
        self, client: Redis, keys: ResultKeys, *, timeout: float, replicas: int = 0
    ) -> None:
        """`replicas` is how many replicas of Redis must have a journal before it is committed."""
        self._client = client
        self._keys = keys
        self._timeout = timeout
        self._replicas = replicas

    def begin(self) -> "Journal":
        """A new journal; Redis has nothing of it before its first batch."""
        key = self._keys.journal(str(uuid4()))
        return Journal(self._client, self._keys, self._timeout, key, self._replicas)

    async def finish_abandoned(self) -> None:
        """Apply committed journals that others have left, for as long as the app serves."""
        seconds = max(1, round(_ABANDONED * self._timeout))
        # Of its own: redis-py leaves one of the pool open if a call is cancelled while it connects.
        connection = ScriptConnection(self._client, timeout=self._timeout)
        while True:
            await asyncio.sleep(_LOOK_AGAIN * self._timeout)
            with suppress(BrokerUnavailableError, RedisError, OSError):  # the next time, then
                try:
                    found: Any = await connection.run(_CLAIM, [self._keys.journals], [seconds])
                finally:
                    await connection.disconnect()
                if found is not None:
                    logger.warning("A canvas that was left half-way is sent to its end")
                    await Journal(self._client, self._keys, self._timeout, found).apply()


class Journal:
    """What is to be sent, in batches of enqueue.lua's arguments."""

    def __init__(
        self,
        client: Redis,
        keys: ResultKeys,
        timeout: float,
        key: str | bytes,
        replicas: int = 0,
    ) -> None:
        self._client = client
        self._replicas = replicas
        self._journals = keys.journals
        self._timeout = timeout
        self._key: Any = key
        self._batches = 0

    async def add(self, arguments: Sequence[Any]) -> None:
        """Put a batch aside."""
        async with bounded(self._timeout, BrokerUnavailableError):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.rpush(self._key, msgspec.msgpack.encode(arguments))
            pipeline.expire(self._key, round(self._timeout) + _KEPT)
            await pipeline.execute()
        self._batches += 1

    async def commit(self) -> None:
        """Have all of it sent, whatever becomes of this process."""
        async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
            keys = [self._key, self._journals]
            connection = ScriptConnection(
                self._client, timeout=self._timeout, replicas=self._replicas
            )
            try:
                is_whole: Any = await connection.run(_COMMIT, keys, [self._batches])
            except RedisError as error:
                if not wrote_nothing(error):
                    raise
                raise BrokerUnavailableError(str(error)) from error
            finally:
                await connection.disconnect()
        if not is_whole:
            raise BrokerUnavailableError("Redis has lost a part of the canvas")

    async def apply(self) -> None:
        """Make jobs of all that was put aside, which has been committed."""
        refused = ""
        done = 0
        while True:
            async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
                answers = await _APPLY.run(self._client, [self._key, self._journals], [done])
            if not answers:
                break
            reasons = [reason.decode() for verdict, reason in answers if verdict == b"refused"]
            refused = refused or next(iter(reasons), "")
            done = 1
        if refused:
            raise BrokerUnavailableError(refused, maybe_accepted=True)

    async def drop(self) -> None:
        """Leave nothing behind of what is not committed; where Redis is away, it expires."""
        with suppress(BrokerUnavailableError):
            async with bounded(self._timeout, BrokerUnavailableError):
                await self._client.unlink(self._key)
