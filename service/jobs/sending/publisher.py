"""What a publisher is asked to send, on which conditions, and what it answers."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from service.jobs.arguments import NO_OPTIONS, SendOptions
from service.jobs.celery.capture import PublishCall, capture_publishes


class Conditions(Struct, frozen=True):
    """What must hold for a job to be accepted.

    The task's `idempotency_key` must have no job yet; `fingerprint` tells what it stands for. Fewer
    than `limit` jobs may wait in the queue (0: any number).
    """

    idempotency_key: str = ""
    fingerprint: str = ""
    limit: int = 0


UNCONDITIONAL: Final = Conditions()


class SendRequest(Struct, frozen=True):
    """One call of a task; `task` is Celery's object."""

    task: Any
    job_id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: SendOptions = NO_OPTIONS
    conditions: Conditions = UNCONDITIONAL


class Accepted(Struct, frozen=True):
    """A job that was accepted: by this call if `is_new`, else before.

    `fingerprint` is the one that was given before, if the idempotency key had this job already.
    """

    job_id: str
    is_new: bool = True
    fingerprint: str = ""


def publish_call_for(request: SendRequest) -> PublishCall:
    """The call that publishes the job, by Celery's own `apply_async`."""
    options = {name: value for name, value in request.options.items() if name != "job_id"}
    with capture_publishes() as calls:
        request.task.apply_async(
            request.args, dict(request.kwargs), task_id=request.job_id, **options
        )
    return next(call for call in calls if call.job_id == request.job_id)
