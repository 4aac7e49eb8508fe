"""Refuses a job that is not to run: it was cancelled, has expired, or has ended before."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

from celery.exceptions import Ignore, Reject, TaskRevokedError
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from redis.exceptions import RedisError

from service.broker.leases.registry import gives_back
from service.errors import ResultsUnavailableError
from service.results.attempt import Attempt, AttemptEnd, end_of
from service.results.model import State
from service.results.record import is_queued
from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.bridge import await_, current_bridge
from service.worker.loop.process import process_of

logger: Final = logging.getLogger(__name__)

_PAUSE: Final = 0.5  # seconds until a chord is looked at again


def refuse_unwanted(task: JobTask, request: JobRequest) -> None:
    """Raise Celery's Ignore where the job's message is to be acknowledged instead of run.

    Celery asks for less when it hands a job to its pool, where the job may then wait for a slot.
    Where Redis does not answer within its timeout, the job is run: this worker has its message.
    Raises Reject where the end of a job that has ended before could not be completed, and where the
    lease on its message may be over.
    """
    if gives_back(str((request.properties or {}).get("delivery_tag"))):
        raise Reject("The lease was not renewed in time.", requeue=True)
    if request.id in revoked:
        _refuse(task, request, "revoked")
    if request.expires:
        at: Any = maybe_iso8601(request.expires)
        if (at if at.tzinfo else at.replace(tzinfo=UTC)) < datetime.now(UTC):
            _refuse(task, request, "expired")
    stored = _read_record(task, request)
    if stored is None or is_queued(stored):  # as that of nearly every job
        return
    if (end := end_of(_attempt(request), stored)) is None:
        return
    if end.state is State.REVOKED:
        # Celery's own revoke does not reach workers that were away when the job was cancelled. As
        # by that, a chord learns that this part of it has failed.
        _revoke(task, request, end.reason, store_result=False)
    elif request.is_eager or not _may_be_acknowledged(task, request, end):
        return
    else:
        logger.info("Job %s is not run again: this attempt ended as %s", request.id, end.state)
        try:
            _complete(task, request, end)
        except Exception as error:  # to Celery it would be the job's own, and end it once more
            raise Reject(error, requeue=True) from error
    raise Ignore


def _read_record(task: JobTask, request: JobRequest) -> bytes | None:
    backend = task.backend
    key = backend.get_key_for_task(request.id)
    try:
        if current_bridge() is None:
            stored: bytes | None = backend.client.get(key)
            return stored
        return await_(process_of(task.app.quart_app).reader.read(key))
    except (ResultsUnavailableError, RedisError, OSError) as error:
        text = "Whether job %s was cancelled, or has ended, is not known: %s"
        logger.warning(text, request.id, error)
        return None


def _attempt(request: JobRequest) -> Attempt:
    return Attempt(
        retries=request.retries or 0,
        queued_at=getattr(request, "queued_at", None),
        is_redelivered=bool((request.delivery_info or {}).get("redelivered")),
    )


def _may_be_acknowledged(task: JobTask, request: JobRequest, end: AttemptEnd) -> bool:
    """Whether nothing is lost by it."""
    if end.state is State.FAILURE:  # the user may want failed messages back, or as dead letters
        options: Any = task  # celery-types: lacks these two
        return bool(options.acks_on_failure and options.acks_on_timeout)
    # The record of a job whose result is ignored lacks the value that its chord has to get.
    return not (request.chord and request.ignore_result)


def _complete(task: JobTask, request: JobRequest, end: AttemptEnd) -> None:
    """Do what follows the storing of a state: the worker may have died between the two.

    Celery sends callbacks and the rest of a chain before it stores a SUCCESS, and a retry before
    RETRY. A chord counts each part once, however often it hears of it. Only errbacks may be called
    twice. Hooks are not called again.
    """
    if end.state is State.SUCCESS and request.chord:
        task.backend.on_chord_part_return(request, end.state.value, end.result)
        _wait_for_body(task, request, end.state, end.result)
    elif end.state is State.FAILURE and (request.chord or request.chain or request.errbacks):
        error = task.backend.exception_to_python(end.result)
        task.backend.mark_as_failure(request.id, error, end.traceback, request=request)
        _wait_for_body(task, request, end.state, error)


def _refuse(task: JobTask, request: JobRequest, reason: str) -> None:
    logger.info("Job %s is not run: it was %s", request.id, reason)
    _revoke(task, request, reason)
    raise Ignore


def _revoke(task: JobTask, request: JobRequest, reason: str, **options: bool) -> None:
    task.backend.mark_as_revoked(request.id, reason, request=request, **options)
    _wait_for_body(task, request, State.REVOKED, TaskRevokedError(reason))


def _wait_for_body(task: JobTask, request: JobRequest, state: State, result: Any) -> None:
    """Wait for whoever has claimed the body of a chord, as that may be a worker that died.

    A claim ends by itself; counting the part once more then sends the body, or ends it.
    """
    # The backend may be another one, by setting.
    is_claimed = getattr(task.backend, "has_claimed_body", lambda _: False)
    while request.chord and request.group and is_claimed(request.group):
        if current_bridge() is None:
            time.sleep(_PAUSE)
        else:
            await_(asyncio.sleep(_PAUSE))
        task.backend.on_chord_part_return(request, state.value, result)
