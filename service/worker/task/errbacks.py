"""Runs errbacks, which Celery calls inside of the job that failed, as bodies are run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, Final

from service.worker.loop.celery_stacks import on_stacks
from service.worker.task.context import call_in_context

# The request of the job whose errbacks are being called, if some are.
_failed: Final[ContextVar[Any]] = ContextVar("failed_request", default=None)

# Those to be called later: the request, the error and the traceback of each job that failed.
_put_off: Final[ContextVar[list[tuple[Any, ...]] | None]] = ContextVar("put_off", default=None)


def failed_request() -> Any:
    """The request of the job that a task called directly is an errback of; None if it is none."""
    return _failed.get()


@contextmanager
def calling_errbacks(request: Any) -> Iterator[None]:
    """Have the tasks that Celery calls directly meanwhile be taken for this request's errbacks."""
    token = _failed.set(request)
    try:
        yield
    finally:
        _failed.reset(token)


@contextmanager
def errbacks_put_off() -> Iterator[list[tuple[Any, ...]]]:
    """Collect what errbacks are to be called with, in this context and in copies of it.

    A chord's are called in one of the few threads for blocking calls, which they may need too.
    """
    collected: list[tuple[Any, ...]] = []
    token = _put_off.set(collected)
    try:
        yield collected
    finally:
        _put_off.reset(token)


def put_off_errbacks(*failure: Any) -> bool:
    """Whether errbacks are collected; then these are."""
    collected = _put_off.get()
    if collected is None:
        return False
    collected.append(failure)
    return True


def call_errback(
    task: Any,
    failed: Any,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call the errback's function: its request and its current_job are those of the failed job."""
    request = copy(failed)
    request.called_directly = True
    with calling_errbacks(None), on_stacks(task, request):
        return call_in_context(task, request, function, args, kwargs)
