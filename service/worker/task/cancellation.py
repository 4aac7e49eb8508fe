"""Asks whether a job is still wanted, before its body is run."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

from celery.exceptions import Ignore
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError
from service.results.model import State
from service.results.record import decode
from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.process import process_of

logger: Final = logging.getLogger(__name__)


def refuse_cancelled(task: JobTask, request: JobRequest) -> None:
    """Raise Celery's Ignore where the job that the task is to run was cancelled, or has expired.

    Celery asks when it hands a job to its pool, where the job may then wait for a slot. Where Redis
    does not answer within its timeout, the job is run: this worker has its message.
    """
    if request.id in revoked:
        _refuse(task, request, "revoked")
    if request.expires:
        at: Any = maybe_iso8601(request.expires)
        if (at if at.tzinfo else at.replace(tzinfo=UTC)) < datetime.now(UTC):
            _refuse(task, request, "expired")
    backend = task.backend
    key = backend.get_key_for_task(request.id)
    try:
        if current_bridge() is None:
            stored = backend.client.get(key)
        else:
            stored = await_(process_of(task.app.quart_app).reader.read(key))
    except (ResultsUnavailableError, RedisError, OSError) as error:
        logger.warning("Whether job %s was cancelled is not known: %s", request.id, error)
        return
    # Looking for the word costs a tenth of decoding, and is enough for nearly every job.
    if stored and b"REVOKED" in stored and decode(request.id, stored).state is State.REVOKED:
        # Celery's own revoke does not reach workers that were away when the job was cancelled. As
        # by that, a chord learns that this part of it has failed.
        task.backend.mark_as_revoked(request.id, "cancelled", request=request, store_result=False)
        raise Ignore


def _refuse(task: JobTask, request: JobRequest, reason: str) -> None:
    logger.info("Job %s is not run: it was %s", request.id, reason)
    task.backend.mark_as_revoked(request.id, reason, request=request)
    raise Ignore
