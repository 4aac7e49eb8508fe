"""Keys Celery's request and task stacks by job, so that child tasks and threads see their own.

Celery keys them by greenlet or thread, and a job's child asyncio tasks and its calls of
`asyncio.to_thread` run in others. What they do share with the body is its context.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final

from celery._state import _task_stack  # type: ignore[attr-defined]  # not in celery-types
from greenlet import getcurrent

_job_key: Final[ContextVar[object]] = ContextVar("job_key")


def key_by_job(stack: Any) -> None:
    """Make a stack of Celery's hold one list for each job, and one for each greenlet elsewhere.

    `__ident_func__` is how Celery's own LocalManager lets the key be chosen.
    """
    stack.__ident_func__ = _key


def _key() -> object:
    return _job_key.get(None) or getcurrent()


key_by_job(_task_stack)


def enter_job() -> None:
    """Give the current context, which is one job's, stacks of its own from here on."""
    _job_key.set(object())


def is_of_a_job(context: Context) -> bool:
    """Whether a context is that of a job, or a copy of it."""
    return _job_key in context


@contextmanager
def on_stacks(task: Any, request: Any) -> Iterator[None]:
    """Have a task and its request be the current ones."""
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
        _task_stack.pop()


@contextmanager
def own_stacks(task: Any, request: Any) -> Iterator[None]:
    """Give the current context, and those copied from it, stacks on which only this job is."""
    if _job_key.get(None) is not None:  # this job entered before: a task that is applied in it
        yield
        return
    key = _job_key.set(object())
    try:
        with on_stacks(task, request):
            yield
    finally:
        _job_key.reset(key)
