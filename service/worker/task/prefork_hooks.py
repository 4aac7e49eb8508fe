"""Runs hooks and errbacks that prefork's parent is to call in one of its children.

The parent ends a job that is past its hard limit, or whose process died. It must have no event loop
and no connection, as its children would be forked with them; nor was the app started in it.
"""

import logging
from typing import Any, Final

from celery import current_app

from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.celery_stacks import on_stacks
from service.worker.loop.process import process_of
from service.worker.task.errbacks import calling_errbacks

logger: Final = logging.getLogger(__name__)

_ERRBACK: Final = "__call__"


def run_hook_in_child(
    task: JobTask, request: JobRequest, name: str, args: Any, kwargs: Any
) -> bool:
    """In prefork's parent, have a child call a hook of the task, by name; elsewhere answer False.

    The parent does not wait for it: a blocked parent stops the whole worker.
    """
    if (pool := process_of(task.app.quart_app).prefork_pool) is None:
        return False
    if pool.apply_async(_call, (task.name, request, name, args, kwargs)) is None:
        logger.warning("%s of %s was not run for job %s", name, task.name, request.id)
    return True


def run_errback_in_child(task: JobTask, failed: JobRequest, args: Any, kwargs: Any) -> bool:
    """The same for an errback of the job that failed."""
    return run_hook_in_child(task, failed, _ERRBACK, args, kwargs)


def _call(task_name: str, request: Any, name: str, args: Any, kwargs: Any) -> None:
    """Make the call, in the child. An error is logged: there is no job that could fail by it."""
    task = current_app.tasks[task_name]
    try:
        if name == _ERRBACK:
            with calling_errbacks(request):
                task(*args, **kwargs)
        else:
            request.called_directly = False
            with on_stacks(task, request):
                getattr(task, name)(*args, **kwargs)
    except Exception:
        logger.exception("%s of %s failed for job %s", name, task_name, request.id)
