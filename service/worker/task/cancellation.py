"""Asks whether a job is still wanted, before its body is run."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

from celery.exceptions import Ignore
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError
from service.jobs.sending.cancel import refuse_if_cancelled
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
    if request.expires and _is_past(request.expires):
        _refuse(task, request, "expired")
    try:
        stored = _stored(task, request.id)
    except (ResultsUnavailableError, RedisError, OSError) as error:
        logger.warning("Whether job %s was cancelled is not known: %s", request.id, error)
    else:
        refuse_if_cancelled(task, request, stored)


def _refuse(task: JobTask, request: JobRequest, reason: str) -> None:
    logger.info("Job %s is not run: it was %s", request.id, reason)
    task.backend.mark_as_revoked(request.id, reason, request=request)
    raise Ignore


def _is_past(moment: str | datetime) -> bool:
    at: Any = maybe_iso8601(moment)
    return bool((at if at.tzinfo else at.replace(tzinfo=UTC)) < datetime.now(UTC))


def _stored(task: JobTask, job_id: str) -> bytes | None:
    backend, app = task.backend, task.app.quart_app
    key: bytes = backend.get_key_for_task(job_id)
    if current_bridge() is not None:
        return await_(process_of(app).reader.read(key))
    stored: bytes | None = backend.client.get(key)
    return stored
