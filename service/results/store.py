"""Reads stored results without ever blocking the event loop."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import cast

from redis.asyncio import Redis

from service.errors import InvalidJobIdError, UnknownJobError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys
from service.redis.script import compare_and_set
from service.results.model import Result, is_job_id
from service.results.record import decode


@dataclass(frozen=True)
class StoredRecord:
    """A job's record as it lies in Redis; decoded once, however many read it."""

    job_id: str
    data: bytes

    @cached_property
    def result(self) -> Result:
        """What the record says. Raises ValueError when it is not a record."""
        return decode(self.job_id, self.data)

    @cached_property
    def version(self) -> str:
        """A name for exactly this record, to tell whether another one is the same."""
        return blake2b(self.data, digest_size=9).hexdigest()


class ResultStore:
    """The read side of Celery's Redis result backend.

    It decodes the raw record: Celery's own `AsyncResult` blocks, takes an unknown id for a
    pending one, and rebuilds exception classes that the record names.
    """

    def __init__(self, client: Redis, keys: ResultKeys, *, timeout: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout

    async def get(self, job_id: str) -> Result:
        """What is known of a job now. Raises what `read` raises."""
        return (await self.read(job_id)).result

    async def read(self, job_id: str) -> StoredRecord:
        """A job's record as it is stored now.

        Raises InvalidJobIdError, UnknownJobError, ResultsUnavailableError.
        """
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        async with bounded(self._timeout):
            stored = cast("bytes | None", await self._client.get(self._keys.record(job_id)))
        if stored is None:
            raise UnknownJobError(job_id)
        return StoredRecord(job_id, stored)

    async def ping(self) -> None:
        """Nothing, if Redis answers. Raises ResultsUnavailableError."""
        async with bounded(self._timeout):
            await self._client.ping()

    async def replace(self, record: StoredRecord, data: bytes) -> bool:
        """Store and publish `data` in the place of a record, if that is still there.

        Raises ResultsUnavailableError.
        """
        async with bounded(self._timeout, maybe_accepted=True):
            key = self._keys.record(record.job_id)
            return await compare_and_set(self._client, key, record.data, data, publish=True)
