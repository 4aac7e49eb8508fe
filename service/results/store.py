"""Reads stored results without ever blocking the event loop."""

from typing import cast

from redis.asyncio import Redis

from service.errors import InvalidJobIdError, UnknownJobError
from service.redis.bounded import bounded
from service.redis.compare_and_set import compare_and_set
from service.redis.keys import ResultKeys
from service.results.model import Result, is_job_id
from service.results.record import decode


class ResultStore:
    """The read side of Celery's Redis result backend.

    It decodes the raw record: Celery's own `AsyncResult` blocks, takes an unknown id for a
    pending one, and rebuilds exception classes named by whoever wrote the record.
    """

    def __init__(self, client: Redis, keys: ResultKeys, *, timeout: float) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout

    async def get(self, job_id: str) -> Result:
        """What is known of a job now. Raises what `read` raises."""
        return decode(job_id, await self.read(job_id))

    async def read(self, job_id: str) -> bytes:
        """A job's record as it is stored now.

        Raises InvalidJobIdError, UnknownJobError, ResultsUnavailableError.
        """
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        async with bounded(self._timeout):
            stored = cast("bytes | None", await self._client.get(self._keys.record(job_id)))
        if stored is None:
            raise UnknownJobError(job_id)
        return stored

    async def ping(self) -> None:
        """Nothing, if Redis answers. Raises ResultsUnavailableError."""
        async with bounded(self._timeout):
            await self._client.ping()

    async def replace(self, job_id: str, stored: bytes, record: bytes) -> bool:
        """Store and publish another record in the place of this one, if it is still there.

        Raises ResultsUnavailableError.
        """
        async with bounded(self._timeout, maybe_accepted=True):
            key = self._keys.record(job_id)
            return await compare_and_set(self._client, key, stored, record, publish=True)
