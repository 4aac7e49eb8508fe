"""Runs errbacks, which Celery calls inside of the job that failed, as bodies are run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, Final, NamedTuple

from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.celery_stacks import on_stacks
from service.worker.task.context import call_in_context


class Failure(NamedTuple):
    """A failed job, as Celery's backend calls errbacks with it."""

    request: JobRequest
    error: Any
    traceback: Any


# The request of the job whose errbacks are being called, if some are.
_failed: Final[ContextVar[JobRequest | None]] = ContextVar("failed_request", default=None)

# The failures whose errbacks are deferred until a chord's blocking call is done.
_deferred: Final[ContextVar[list[Failure] | None]] = ContextVar("deferred_errbacks", default=None)


def failed_request() -> JobRequest | None:
    """The request of the job that a task called directly is an errback of; None if it is none."""
    return _failed.get()


@contextmanager
def calling_errbacks(request: JobRequest | None) -> Iterator[None]:
    """Have the tasks that Celery calls directly meanwhile be taken for this request's errbacks."""
    token = _failed.set(request)
    try:
        yield
    finally:
        _failed.reset(token)


@contextmanager
def deferred_errbacks() -> Iterator[list[Failure]]:
    """Collect the failures whose errbacks are to be called, in this context and in copies of it.

    A chord calls them in one of the few threads for blocking calls, which errbacks may need too.
    """
    collected: list[Failure] = []
    token = _deferred.set(collected)
    try:
        yield collected
    finally:
        _deferred.reset(token)


def defer_errbacks(failure: Failure) -> bool:
    """Defer the errbacks of a failure, if those of this context are deferred; else answer False."""
    collected = _deferred.get()
    if collected is None:
        return False
    collected.append(failure)
    return True


def call_errback(
    task: JobTask,
    failed: JobRequest,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call the errback's function: its request and its current_job are those of the failed job."""
    request = copy(failed)
    request.called_directly = True
    with calling_errbacks(None), on_stacks(task, request):
        return call_in_context(task, request, function, args, kwargs)
