"""Runs errbacks as bodies are run, and has a child run what prefork's parent is to call."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, Final

from celery import current_app

from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.celery_stacks import on_stacks
from service.worker.loop.process import process_of
from service.worker.task.context import BodyCall

logger: Final = logging.getLogger(__name__)

ERRBACK: Final = "__call__"

# The request of the job that a task which is called directly is an errback of; None if of none.
failed_request: Final[ContextVar[JobRequest | None]] = ContextVar("failed_request", default=None)


@contextmanager
def calling_errbacks(request: JobRequest | None) -> Iterator[None]:
    """Have the tasks that Celery calls directly meanwhile be taken for this request's errbacks."""
    token = failed_request.set(request)
    try:
        yield
    finally:
        failed_request.reset(token)


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
        return BodyCall(task, request, function, args, kwargs, is_errback=True).run()


def run_hook_in_child(
    task: JobTask, request: JobRequest, name: str, args: Any, kwargs: Any
) -> bool:
    """In prefork's parent, have a child call a hook of the task, by name; elsewhere answer False.

    Name ERRBACK is the task itself, called as an errback of the request's job. The parent ends a
    job that is past its hard limit, or whose process died. It must have no event loop and no
    connection, as its children would be forked with them; nor was the app started in it. It does
    not wait for the child: a blocked parent stops the whole worker.
    """
    if (pool := process_of(task.app.quart_app).prefork_pool) is None:
        return False
    if pool.apply_async(_call, (task.name, request, name, args, kwargs)) is None:
        logger.warning("%s of %s was not run for job %s", name, task.name, request.id)
    return True


def _call(task_name: str, request: Any, name: str, args: Any, kwargs: Any) -> None:
    """Make the call, in the child. An error is logged: there is no job that could fail by it."""
    task = current_app.tasks[task_name]
    try:
        if name == ERRBACK:
            with calling_errbacks(request):
                task(*args, **kwargs)
        else:
            request.called_directly = False
            with on_stacks(task, request):
                getattr(task, name)(*args, **kwargs)
    except Exception:
        logger.exception("%s of %s failed for job %s", name, task_name, request.id)
