"""Asks whether a job is still wanted, before its body is run."""

import asyncio
import contextvars
import logging
from datetime import UTC, datetime
from typing import Any, Final

from celery.exceptions import Ignore
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.jobs.sending.cancel import refuse_if_cancelled
from service.parts import parts_of
from service.redis.bounded import bounded
from service.redis.clients import connect
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.lifespan import get_loop

logger: Final = logging.getLogger(__name__)

_EXTENSION: Final = "service.record_reader"
_MAX_BATCH: Final = 500  # records in one command


class RecordReader:
    """Reads records on the event loop: those of many jobs in one round trip."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._waiting: _Batch = []
        self._reading: asyncio.Task[None] | None = None

    async def read(self, key: bytes) -> bytes | None:
        """What is stored under the key. Raises BrokerUnavailableError."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting.append((key, found))
        if self._reading is None:
            # In a context of its own, or it would belong to the job that happened to start it.
            self._reading = loop.create_task(self._read_all(), context=contextvars.Context())
        return await found

    async def close(self) -> None:
        """Drop the connection."""
        await self._client.aclose()

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:_MAX_BATCH]
                del self._waiting[:_MAX_BATCH]
                try:
                    await self._read(batch)
                except Exception as error:
                    # Whatever it is: a job that waits here would wait, and be held, for ever.
                    logger.exception("Records could not be read")
                    _fail(batch, repr(error))
        finally:
            self._reading = None

    async def _read(self, batch: "_Batch") -> None:
        try:
            async with bounded(self._timeout):
                records: list[Any] = await self._client.mget([key for key, _ in batch])
        except BrokerUnavailableError as error:
            _fail(batch, error.reason)
        else:
            for (_, found), record in zip(batch, records, strict=True):
                if not found.done():
                    found.set_result(record)


_Batch = list[tuple[bytes, asyncio.Future[bytes | None]]]


def _fail(batch: _Batch, reason: str) -> None:
    for _, found in batch:
        if not found.done():
            found.set_exception(BrokerUnavailableError(reason))


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
    except (BrokerUnavailableError, RedisError, OSError) as error:
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
