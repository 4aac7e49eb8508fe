"""Keys Celery's request and task stacks by job, so that child tasks and threads see their own.

Celery keys them by greenlet or thread, but a job's child tasks and its calls of `asyncio.to_thread`
run in others. All that they share with the body is its context.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final

from celery._state import _task_stack  # type: ignore[attr-defined]  # not in celery-types
from celery.utils.threads import LocalManager
from greenlet import getcurrent

from service.worker.celery_types import JobRequest, JobTask

CURRENT_TASKS: Final = _task_stack  # of `celery.current_task`, for all apps of the process

_job_key: Final[ContextVar[object]] = ContextVar("job_key")


def key_by_job(stack: Any) -> None:
    """Make a stack of Celery's hold one list for each job, and one for each greenlet elsewhere.

    Celery's own key is the greenlet: no other app sees a difference in CURRENT_TASKS. Choosing the
    key is what Celery's LocalManager has its `ident_func` for.
    """
    LocalManager([stack], ident_func=lambda: _job_key.get(None) or getcurrent())


def enter_job(job: object) -> None:
    """Make the current context that of a job, with stacks of its own from here on."""
    _job_key.set(job)


def job_of(context: Context) -> object | None:
    """What the context, or the one that it was copied from, entered as its job."""
    return context.get(_job_key)


@contextmanager
def on_stacks(task: JobTask, request: JobRequest) -> Iterator[None]:
    """Have a task and its request be the current ones."""
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        yield
    finally:
        task.request_stack.pop()
        _task_stack.pop()


@contextmanager
def own_stacks(task: JobTask, request: JobRequest) -> Iterator[None]:
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
