"""ContextTask, the Task base that runs every body that is still wanted in a Quart app context."""

# ruff: noqa: SLF001  `request._protected`, see below

import inspect
import logging
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from functools import wraps
from types import TracebackType
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from celery.utils.time import maybe_iso8601
from celery.worker.state import revoked
from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError, TaskAbortedError
from service.parts import parts_of
from service.results.model import State
from service.results.record import decode, encode_strictly
from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.bridge import (
    JobCancelledError,
    SoftLimitCancelledError,
    await_,
    current_bridge,
)
from service.worker.loop.celery_stacks import key_by_job
from service.worker.loop.process import process_of
from service.worker.pool import default_pool  # noqa: F401  it connects to Celery's start-up signals
from service.worker.task.context import BodyCall
from service.worker.task.errbacks import ERRBACK, call_errback, failed_request, run_hook_in_child

logger: Final = logging.getLogger(__name__)

_HOOKS: Final = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
_BETWEEN: Final = ("service.worker.", "asyncio.", "concurrent.futures.")  # the worker and a body
_TERMINATED: Final = signal.SIGTERM - 256  # billiard's exit code at a SIGTERM
_WRAPPED: Final = "_runs_in_app_context"


class Phase(IntEnum):
    """How far the tracer is with a job: kept in Celery's private `request._protected`, only here.

    Celery has 0 or 1 there: whether its worker has called the task, so that a call inside of that
    one is a direct call (`__protected_call__` in celery.app.trace). To Celery all but NEW is a 1.
    """

    NEW = 0
    WANTED = 1  # the record does not say that it was cancelled
    BEGUN = 2  # the task was called
    IN_BODY = 3  # or after it


_NEW, _WANTED, _BEGUN, _IN_BODY = Phase  # bound once: each job asks seven times


class ContextTask(Task):  # type: ignore[type-arg]  # celery-types: generic, Celery: not
    """Runs its body and its hooks, sync or `async def`, in an app context each."""

    abstract = True
    Request = "service.worker.task.request:Request"

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Put body and hooks of the task class into the app context (Celery's own seam)."""
        super().on_bound(app)
        key_by_job(cls.request_stack)
        _wrap(cls, "run")
        if cls.__call__ is not ContextTask.__call__:
            _wrap_call(cls)
        for hook in _HOOKS:
            if getattr(cls, hook) is not getattr(Task, hook):
                _wrap(cls, hook)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job that the worker traces; called by anyone else, Celery's direct call."""
        request: Any = self.request_stack.top
        # The condition of Celery's `__protected_call__`, so that `super().__call__` still works.
        if request is None or request.called_directly or request._protected == _IN_BODY:
            if (failed := failed_request.get()) is not None:
                if run_hook_in_child(self, failed, ERRBACK, args, kwargs):
                    return None
                plain = getattr(inspect.getattr_static(type(self), "run"), _WRAPPED)
                function = plain.__get__(self, type(self))
                return _survivable(call_errback, (self, failed, function, args, kwargs), {})
            return super().__call__(*args, **kwargs)
        if request._protected == _BEGUN:  # a `__call__` of the user's own calls this one
            return self.run(*args, **kwargs)
        _begin(self, request)
        return _checked_for_others(self, request, _survivable(self.run, args, kwargs))


def _checked_for_others(task: JobTask, request: JobRequest, value: Any) -> Any:
    """Refuse a value that cannot be stored, if it goes to other jobs: Celery sends these first.

    Raises UnstorableResultError.
    """
    if request.callbacks or request.chain:
        encode_strictly(value, parts_of(task.app.quart_app).settings.max_result)
    return value


def _begin(task: ContextTask, request: JobRequest) -> None:
    """Note that the job runs from here on. Raises Ignore where it was cancelled."""
    if request._protected == _NEW:
        _refuse_cancelled(task, request)
    request._protected = _BEGUN
    if request.headers:  # a copy for the body, which may change it: Celery's worker has the other
        request.headers = dict(request.headers)


def _refuse_cancelled(task: JobTask, request: JobRequest) -> None:
    """Raise Celery's Ignore where the job that the task is to run was cancelled, or has expired.

    Celery asks when it hands a job to its pool, where the job may then wait for a slot. Where Redis
    does not answer within its timeout, the job is run: this worker has its message.
    """
    if request.id in revoked:
        _refuse(task, request, "revoked")
    if request.expires:
        at: Any = maybe_iso8601(request.expires)
        if (at if at.tzinfo else at.replace(tzinfo=UTC)) < datetime.now(UTC):
            _refuse(task, request, "expired")
    backend = task.backend
    key = backend.get_key_for_task(request.id)
    try:
        if current_bridge() is None:
            stored = backend.client.get(key)
        else:
            stored = await_(process_of(task.app.quart_app).reader.read(key))
    except (ResultsUnavailableError, RedisError, OSError) as error:
        logger.warning("Whether job %s was cancelled is not known: %s", request.id, error)
        return
    # Looking for the word costs a tenth of decoding, and is enough for nearly every job.
    if stored and b"REVOKED" in stored and decode(request.id, stored).state is State.REVOKED:
        # Celery's own revoke does not reach workers that were away when the job was cancelled. As
        # by that, a chord learns that this part of it has failed.
        task.backend.mark_as_revoked(request.id, "cancelled", request=request, store_result=False)
        raise Ignore


def _refuse(task: JobTask, request: JobRequest, reason: str) -> None:
    logger.info("Job %s is not run: it was %s", request.id, reason)
    task.backend.mark_as_revoked(request.id, reason, request=request)
    raise Ignore


def _survivable(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a user's function so that whatever it raises ends the job and not the worker.

    Celery lets MemoryError, and all that is not an Exception, through to the worker, which ends.
    """
    try:
        return function(*args, **kwargs)
    except SoftLimitCancelledError as error:
        raise SoftTimeLimitExceeded(*error.args) from None
    except (JobCancelledError, WorkerShutdown, WorkerTerminate):
        # The pool cancelled the job, and knows why. Or the worker's signal handlers raised it,
        # wherever the main thread was.
        raise
    except MemoryError as error:
        raise TaskAbortedError(f"The task raised {error!r}.") from error
    except Exception as error:
        error.__traceback__ = _from_the_users_code(error.__traceback__)
        raise
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code == _TERMINATED:
            raise  # the job was cancelled, and the pool ends the process that runs it
        raise TaskAbortedError(f"The task raised {error!r}.") from error


def _from_the_users_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames between the worker and the body, which hide the error.

    Celery copies every frame of it, too: for a job that fails that is most of its cost.
    """
    found = trace
    while found is not None:
        if not str(found.tb_frame.f_globals.get("__name__")).startswith(_BETWEEN):
            return found
        found = found.tb_next
    return trace


def _wrap(cls: type[ContextTask], name: str) -> None:
    """Put one method of a task class, given by its user, into the app context."""
    plain = inspect.getattr_static(cls, name)
    if getattr(plain, _WRAPPED, None):
        return

    @wraps(getattr(cls, name))
    def wrapper(self: ContextTask, *args: Any, **kwargs: Any) -> Any:
        function = plain.__get__(self, type(self))
        request: Any = self.request
        if request.called_directly:
            is_hook = name != "run" and request.id
            if is_hook and run_hook_in_child(self, request, name, args, kwargs):
                return None
            return function(*args, **kwargs)
        if name == "run":
            if request._protected != _BEGUN:  # the body, or a hook, calls it
                return function(*args, **kwargs)
            request._protected = _IN_BODY
            # Not _survivable: __call__ is, which lets Celery's autoretry see the error first.
            is_body = not request.is_eager
            return BodyCall(self, request, function, args, kwargs, is_body=is_body).run()
        if name == "before_start" and request._protected == _NEW:
            _refuse_cancelled(self, request)
            request._protected = _WANTED
        return _survivable(BodyCall(self, request, function, args, kwargs).run, (), {})

    setattr(wrapper, _WRAPPED, plain)
    setattr(cls, name, wrapper)


def _wrap_call(cls: type[ContextTask]) -> None:
    """Have a job begin before the `__call__` of its user's own class, which may not call ours."""
    plain = cls.__call__
    if getattr(plain, _WRAPPED, False):
        return

    @wraps(plain)
    def wrapper(self: ContextTask, *args: Any, **kwargs: Any) -> Any:
        request: Any = self.request_stack.top
        function = plain.__get__(self, type(self))
        if request is None or request.called_directly or request._protected >= _BEGUN:
            return function(*args, **kwargs)
        _begin(self, request)
        return _checked_for_others(self, request, _survivable(function, args, kwargs))

    setattr(wrapper, _WRAPPED, True)
    cls.__call__ = wrapper  # type: ignore[method-assign]  # as with `run`
