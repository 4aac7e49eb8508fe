"""One call of Celery's tracer, as Celery's worker hands it to a pool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_TRACER_TAKES: Final = 6  # arguments, of Celery's tracer


@dataclass(slots=True, weakref_slot=True, eq=False)
class TracerCall:
    """The tracer, its arguments, and the callbacks that report how the job ends.

    Celery's request refers to it weakly. It lives until the main thread has been told of the job's
    end: after a lost connection the transport sees by it which jobs the pool still has.
    """

    target: Callable[..., Any]
    args: Any
    kwargs: Any
    on_accepted: Callable[..., Any] | None
    on_success: Callable[..., Any] | None
    on_error: Callable[..., Any] | None
    on_timeout: Callable[..., Any] | None
    soft_limit: float | None  # seconds
    hard_limit: float | None  # seconds

    def terminate(self, signal: Any = None) -> None:
        """Nothing: Celery calls this after it has told the pool to terminate the job."""

    def trace(self) -> Any:
        """Run the tracer, and with it the job."""
        if self.kwargs or len(self.args) != _TRACER_TAKES:
            return self.target(*self.args, **self.kwargs)
        # The same without a star, for which Python would call it by way of C: that is 400 bytes of
        # stack for as long as the job waits.
        name, job_id, request, body, content_type, encoding = self.args
        return self.target(name, job_id, request, body, content_type, encoding)

    @property
    def task_name(self) -> str:
        """The task's name: the tracer's first argument."""
        return str(self.args[0])

    @property
    def job_id(self) -> str:
        """The job's id: the tracer's second argument."""
        return str(self.args[1])

    @property
    def request(self) -> dict[str, Any]:
        """The job's request: the tracer's third argument."""
        request: dict[str, Any] = self.args[2]
        return request
