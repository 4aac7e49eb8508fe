"""Asks whether a job is still wanted, before its body is run."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from celery.exceptions import Ignore
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError
from service.jobs.sending.cancel import refuse_if_cancelled
from service.parts import parts_of
from service.redis.batcher import Batcher
from service.redis.bounded import bounded
from service.redis.clients import connect
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.lifespan import get_loop

logger: Final = logging.getLogger(__name__)

_EXTENSION: Final = "service.record_reader"
_MAX_BATCH: Final = 500  # records in one command


@dataclass(slots=True, eq=False)
class _PendingRead:
    """A key that is to be read, and the future of what is stored there."""

    key: bytes
    found: asyncio.Future[bytes | None]
    count: int = 1
    size: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether the job still waits."""
        return not self.found.done()


class RecordReader:
    """Reads records on the event loop: those of many jobs in one round trip."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._batcher: Batcher[_PendingRead] = Batcher(self._read, max_count=_MAX_BATCH)

    async def read(self, key: bytes) -> bytes | None:
        """What is stored under the key. Raises ResultsUnavailableError."""
        found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._batcher.add(_PendingRead(key, found))
        return await found

    async def close(self) -> None:
        """Drop the connection."""
        await self._client.aclose()

    async def _read(self, batch: list[_PendingRead]) -> None:
        try:
            async with bounded(self._timeout):
                records: list[Any] = await self._client.mget([pending.key for pending in batch])
        except ResultsUnavailableError as error:
            _fail(batch, error.reason)
        except Exception as error:
            # Whatever it is: a job that waits here would wait, and be held, for ever.
            logger.exception("Records could not be read")
            _fail(batch, repr(error))
        else:
            for pending, record in zip(batch, records, strict=True):
                if pending.is_wanted:
                    pending.found.set_result(record)


def _fail(batch: list[_PendingRead], reason: str) -> None:
    for pending in batch:
        if pending.is_wanted:
            pending.found.set_exception(ResultsUnavailableError(reason))


def get_reader(app: Quart) -> RecordReader:
    """The process's reader; made when it is first needed. To be called on the loop."""
    if _EXTENSION not in app.extensions:
        settings = parts_of(app).settings
        reader = RecordReader(connect(settings), timeout=settings.redis_timeout)
        get_loop(app).closers.append(reader.close)
        app.extensions[_EXTENSION] = reader
    found: RecordReader = app.extensions[_EXTENSION]
    return found


def refuse_cancelled(task: Any, request: Any) -> None:
    """Raise Celery's Ignore where the job that the task is to run was cancelled, or has expired.

    Celery asks when it hands a job to its pool, where it may then wait for a place. Where Redis
    cannot be asked within its timeout, the job is run: it was handed to this worker.
    """
    if request.id in revoked:
        _refuse(task, request, "revoked")
    if request.expires and _is_past(request.expires):
        _refuse(task, request, "expired")
    try:
        stored = _stored(task, request.id)
    except (ResultsUnavailableError, RedisError, OSError) as error:
        logger.warning("Whether job %s was cancelled is not known: %s", request.id, error)
    else:
        refuse_if_cancelled(task, request, stored)


def _refuse(task: Any, request: Any, reason: str) -> None:
    logger.info("Job %s is not run: it was %s", request.id, reason)
    task.backend.mark_as_revoked(request.id, reason, request=request)
    raise Ignore


def _is_past(moment: str | datetime) -> bool:
    at: Any = maybe_iso8601(moment)
    return bool((at if at.tzinfo else at.replace(tzinfo=UTC)) < datetime.now(UTC))


def _stored(task: Any, job_id: str) -> bytes | None:
    backend, app = task.backend, task.app.quart_app
    key: bytes = backend.get_key_for_task(job_id)
    if current_bridge() is not None:
        return await_(get_reader(app).read(key))
    stored: bytes | None = backend.client.get(key)
    return stored
