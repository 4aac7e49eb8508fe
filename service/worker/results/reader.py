"""Reads records from the event loop: those of many jobs in one round trip."""

import asyncio
import logging
from typing import Any, ClassVar, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError
from service.redis.batcher import Batcher
from service.redis.script import ScriptConnection

logger: Final = logging.getLogger(__name__)

_MAX_BATCH: Final = 500  # records in one command


class _PendingRead(msgspec.Struct, eq=False):
    """A key that is to be read, and the future of what is stored there."""

    count: ClassVar[int] = 1
    size: ClassVar[int] = 0
    is_wanted: ClassVar[bool] = True

    key: bytes
    found: asyncio.Future[bytes | None]


class RecordReader:
    """Reads records on the event loop: those of many jobs in one round trip."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._connection = ScriptConnection(client, timeout=timeout)
        self._batcher: Batcher[_PendingRead] = Batcher(self._read, max_count=_MAX_BATCH)

    async def read(self, key: bytes) -> bytes | None:
        """What is stored under the key. Raises ResultsUnavailableError."""
        found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._batcher.add(_PendingRead(key, found))
        return await found

    async def close(self) -> None:
        """Drop the connection."""
        await self._batcher.close()
        await self._connection.disconnect()
        await self._client.aclose()

    async def _read(self, batch: list[_PendingRead]) -> None:
        reason = None
        records: list[Any] = [None] * len(batch)
        try:
            records = await self._connection.execute("MGET", *[pending.key for pending in batch])
        except (RedisError, OSError) as error:
            reason = str(error) or f"no answer within {self._timeout:g} s"
        except Exception as error:
            # Whatever it is: a job that waits here would wait for ever.
            logger.exception("Records could not be read")
            reason = repr(error)
        for pending, record in zip(batch, records, strict=True):
            if pending.found.done():  # cancelled
                continue
            if reason is None:
                pending.found.set_result(record)
            else:
                pending.found.set_exception(ResultsUnavailableError(reason))
