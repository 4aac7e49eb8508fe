"""The parts of Celery's tasks and requests that we use: Celery has no types for most of them."""

from typing import Any, Protocol


class JobRequest(Protocol):
    """The request of one run of a job: `celery.app.task.Context`, as the tracer fills it."""

    id: str
    args: Any
    kwargs: Any
    called_directly: bool
    is_eager: bool
    headers: dict[str, Any] | None
    retries: int | None
    expires: Any  # an ISO time or a datetime
    callbacks: Any
    errbacks: Any
    chain: Any
    chord: Any
    group: str | None
    ignore_result: bool
    delivery_info: dict[str, Any] | None
    properties: dict[str, Any] | None
    _protected: int  # Celery's own: task/base.py keeps there how far the job is
    # Ours, missing until they are set.
    started_at: str  # ISO time
    due_again_at: str | None  # ISO time, of the retry that it has asked for
    has_started_on_loop: bool  # the loop's writer has the record of its start
    has_newer_state: bool  # than STARTED, on its way to Redis or there
    is_stored: bool  # a state of this run is in Redis
    goes_on: bool  # as another call, which this one has sent under its id


class JobTask(Protocol):
    """A task of a QuartCelery app."""

    name: str
    request_stack: Any

    @property
    def app(self) -> Any:
        """The QuartCelery app."""

    @property
    def backend(self) -> Any:
        """The result backend: ours, unless a setting names another one."""
