"""What a publisher is asked to send, on which conditions, and what it answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from service.jobs.arguments import NO_OPTIONS, SendOptions
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall, capture_publishes
from service.jobs.sending.message import BuiltMessage


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


class Publisher(Protocol):
    """Hands jobs to a broker. An accepted job is not lost; nothing here blocks the event loop.

    Every method raises BrokerUnavailableError, and those that send kombu's EncodeError where the
    arguments are not JSON.
    """

    celery: QuartCelery

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call. Raises QueueFullError."""

    async def send_canvas(
        self, calls: Sequence[PublishCall], followers: Sequence[BuiltMessage]
    ) -> None:
        """Send a canvas: its first messages, and the records of the jobs that follow."""

    async def revoke(self, job_id: str) -> None:
        """Tell every worker to end the job, or not to begin it."""

    async def aclose(self) -> None:
        """Close its own connections."""


def publish_call_for(request: SendRequest) -> PublishCall:
    """The call that publishes the job, by Celery's own `apply_async`."""
    options = {name: value for name, value in request.options.items() if name != "job_id"}
    with capture_publishes() as calls:
        request.task.apply_async(
            request.args, dict(request.kwargs), task_id=request.job_id, **options
        )
    return next(call for call in calls if call.job_id == request.job_id)
