"""Runs errbacks, which Celery calls inside of the job that failed, as bodies are run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, Final

from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.celery_stacks import on_stacks
from service.worker.task.context import BodyCall

# The request of the job whose errbacks are being called, if some are.
_failed: Final[ContextVar[JobRequest | None]] = ContextVar("failed_request", default=None)

# Calls of errbacks that are deferred until a chord's blocking call is done.
_deferred: Final[ContextVar[list[Callable[[], None]] | None]] = ContextVar(
    "deferred_errbacks", default=None
)


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
def deferred_errbacks() -> Iterator[list[Callable[[], None]]]:
    """Collect the calls of errbacks in this context and in copies of it.

    A chord calls them in one of the few threads for blocking calls, which errbacks may need too.
    """
    calls: list[Callable[[], None]] = []
    token = _deferred.set(calls)
    try:
        yield calls
    finally:
        _deferred.reset(token)


def defer_errbacks(call: Callable[[], None]) -> bool:
    """Collect the call, if those of this context are deferred; else answer False."""
    calls = _deferred.get()
    if calls is not None:
        calls.append(call)
    return calls is not None


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
        return BodyCall(task, request, function, args, kwargs).run()
