"""Writes FAILURE for a job whose message was given up on, so that nobody waits for it for ever."""

import logging
from enum import Enum

from celery import Celery, states
from celery.app.task import Context
from celery.backends.base import DisabledBackend
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.broker import messages, worker_state
from service.errors import DeadLetterError

logger = logging.getLogger(__name__)

# What means "not now": the failure is written when Redis is back.
TRANSIENT = (RedisError, OperationalError, OSError)


class Verdict(Enum):
    """What is known of a job after its FAILURE was to be stored."""

    FAILED = "failed"
    SUCCEEDED = "succeeded"  # before: its worker died between the result and the ack
    UNKNOWN = "unknown"  # this process has no results to ask; a worker may have them


class FailureWriter:
    """Tells an app's result backend; the only place where the transport knows of results."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(self, item: bytes, reason: str) -> Verdict:
        """Store FAILURE for the message's job unless it has ended. Raises one of TRANSIENT."""
        job_id = messages.job_id(item)
        if job_id is None:
            return Verdict.FAILED
        backend = self._app.backend
        if isinstance(backend, DisabledBackend):
            # A worker's word counts: it would have stored the job's result.
            return Verdict.FAILED if worker_state.is_serving() else Verdict.UNKNOWN
        try:
            state = backend.get_state(job_id)
            if state in states.READY_STATES:
                return Verdict.SUCCEEDED if state == states.SUCCESS else Verdict.FAILED
            # With the request, so that a chord or an errback that counts on this job hears of it.
            backend.mark_as_failure(job_id, DeadLetterError(reason), request=_request(item))
        except TRANSIENT:
            raise
        except Exception:
            # Whatever a backend may raise on a strange message must not keep it in the queue.
            logger.exception("Could not store FAILURE for job %s (%s).", job_id, reason)
        return Verdict.FAILED


def _request(item: bytes) -> Context:
    try:
        payload = messages.read(item)
        headers = dict(payload["headers"])
    except (ValueError, TypeError, LookupError):
        return Context()
    try:
        _, _, embedded = messages.body(payload)
        known = {name: embedded.get(name) for name in ("chord", "errbacks")}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        known = {}
    return Context(headers, **known)
