"""Reads stored results without ever blocking the event loop."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.errors import InvalidJobIdError, UnknownJobError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys
from service.redis.script import compare_and_set
from service.redis.transient import answer_of
from service.results.decoding import decode
from service.results.marks import beginning_of, owner_of
from service.results.model import Result, is_job_id

logger: Final = logging.getLogger(__name__)

_BEGINNING: Final = 4096  # bytes: all of most records, and of each whose job it is
_NOBODYS: Final = b'{"status": "SUCCESS", "owner": "", "name": null, "result": null}'  # no id is ""


@dataclass(frozen=True)
class StoredRecord:
    """A job's record as it lies in Redis, or its beginning; decoded once, however many read it."""

    job_id: str
    data: bytes

    @cached_property
    def result(self) -> Result:
        """What the record says. Raises UnknownJobError when it is not a record."""
        try:
            return decode(self.job_id, self.data)
        except ValueError as error:
            raise _unreadable(self.job_id, error) from error

    @cached_property
    def owner(self) -> str | None:
        """The id of the job's owner; None if it has none."""
        return owner_of(self.data)

    @cached_property
    def task(self) -> str | None:
        """The name of the job's task. Raises UnknownJobError when it is not a record."""
        beginning = beginning_of(self.data)
        return self.result.task if beginning is None else beginning[1]

    @cached_property
    def version(self) -> str:
        """A name for exactly this record, to tell whether another one is the same."""
        return blake2b(self.data, digest_size=9).hexdigest()


May: TypeAlias = Callable[[StoredRecord], bool]


def _unreadable(job_id: str, error: Exception) -> UnknownJobError:
    """The error for all readers, also for those who may not know that there is such a job."""
    logger.warning("The record of job %r cannot be read: %s", job_id, error)
    return UnknownJobError(job_id)


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

    async def read(self, job_id: str, may: May | None = None) -> StoredRecord:
        """A job's record as it is stored now; for a reader who `may` know of the job.

        Raises InvalidJobIdError, UnknownJobError, also for what is no record, and
        ResultsUnavailableError.
        """
        record = None if may is None else await self.glance(job_id, may)
        if record is None:
            record = StoredRecord(job_id, await self._stored(job_id, "GET"))
            if may is not None and not may(record):
                raise UnknownJobError(job_id)
        record.result  # noqa: B018  or it would be each reader's to find out that it is none
        return record

    async def glance(self, job_id: str, may: May) -> StoredRecord | None:
        """Look at a record's beginning alone, which is all of most; None where there is more of it.

        So who may not know of a job waits no longer for the answer if it has a long record, or if
        there is no such job: `may` is asked all the same. Raises what `read` raises. Where only all
        of a record tells who may know of it, the caller has to ask again.
        """
        try:
            stored = await self._stored(job_id, "GETRANGE", 0, _BEGINNING - 1)
        except UnknownJobError:
            may(StoredRecord(job_id, _NOBODYS))
            raise
        record, is_whole = StoredRecord(job_id, stored), len(stored) < _BEGINNING
        if (is_whole or beginning_of(stored)) and not may(record):
            raise UnknownJobError(job_id)
        return record if is_whole else None

    async def _stored(self, job_id: str, command: str, *arguments: int) -> bytes:
        """What is stored of the job."""
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        execute: Any = self._client.execute_command
        async with bounded(self._timeout):
            try:
                stored: bytes | None = await execute(command, self._keys.record(job_id), *arguments)
            except ResponseError as error:
                if not answer_of(error).startswith("WRONGTYPE"):
                    raise
                raise _unreadable(job_id, error) from error
        if not stored:
            raise UnknownJobError(job_id)
        return stored

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
