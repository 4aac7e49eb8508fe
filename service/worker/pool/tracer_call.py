"""What Celery asks the pool for: a call of its tracer, and to be told how that ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_TRACER_TAKES: Final = 6  # arguments, of Celery's tracer


@dataclass(slots=True, weakref_slot=True, eq=False)
class TracerCall:
    """The tracer, its arguments, and the callbacks that report how the job ends.

    Celery's request refers to it weakly. It lives until the main thread has been told of the job's
    end: after a lost connection the transport sees by it, and by `is_over` where something else
    refers to it, which jobs the pool still has.
    """

    target: Callable[..., Any]
    args: Any  # the task's name, the job's id, its request as a dict, and three more
    kwargs: Any
    on_accepted: Callable[..., Any] | None
    on_success: Callable[..., Any] | None
    on_error: Callable[..., Any] | None
    on_timeout: Callable[..., Any] | None
    soft_limit: float | None  # seconds
    hard_limit: float | None  # seconds
    is_over: bool = False  # and the main thread has been told

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


def let_go(error: BaseException | None) -> None:
    """Cut the error of a job that has ended, and those behind it, off from their frames.

    Celery's and the user's frames refer to the error, and it to them, with all that their locals
    hold: the collector would find such cycles late.
    """
    errors, seen = [error], set[int]()
    while errors:
        each = errors.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            errors += (each.__cause__, each.__context__, getattr(each, "exc", None))
            errors += getattr(each, "exceptions", ())


def call_back(call: TracerCall, callback: Callable[..., Any], outcome: Any) -> None:
    """Report how a call ended, and keep the call alive until then."""
    try:
        callback(outcome)
    finally:
        call.is_over = True
