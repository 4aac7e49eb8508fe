"""Stores FAILURE for the job of a message that is buried, so that no client waits for ever."""

import logging

from celery import Celery, states
from celery.app.task import Context

from service.broker import messages
from service.errors import DeadLetterError
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)


def store_failure(app: Celery, message: bytes, reason: str) -> bool:
    """Store FAILURE for the message's job unless it has ended; false if it has ended well.

    The only place where the broker writes results. Blocks for as long as the app's result backend
    does. Raises one of TRANSIENT.
    """
    job_id = messages.job_id(message)
    if job_id is None:
        return True
    backend = app.backend
    try:
        state = backend.get_state(job_id)
        if state in states.READY_STATES:
            return bool(state != states.SUCCESS)
        # With the request, so that the jobs and errbacks that count on this job hear of it.
        error, request = DeadLetterError(reason), _request_of(message)
        backend.mark_as_failure(job_id, error, request=request)
    except TRANSIENT:
        raise
    except Exception:
        # Whatever a backend may raise on a strange message must not keep it in the queue.
        logger.exception("Could not store FAILURE for job %s (%s).", job_id, reason)
    return True


def store_expired(app: Celery, message: bytes) -> None:
    """Store REVOKED for a job whose message has expired in its queue, unless it has ended."""
    job_id = messages.job_id(message)
    if job_id is not None and app.backend.get_state(job_id) not in states.READY_STATES:
        app.backend.mark_as_revoked(job_id, "expired", request=_request_of(message))


def _request_of(message: bytes) -> Context:
    try:
        headers = dict(messages.read(message)["headers"])
    except (ValueError, TypeError, LookupError):
        return Context()
    embedded = messages.embedded(message)
    return Context(headers, **{name: embedded.get(name) for name in ("chain", "chord", "errbacks")})
