"""ContextTask, the Task base that runs every body that is still wanted in a Quart app context."""

# ruff: noqa: SLF001  `request._protected`, see below

import inspect
import signal
from collections.abc import Callable
from enum import IntEnum
from functools import partial, wraps
from types import TracebackType
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from service.errors import TaskAbortedError, UnavailableError
from service.jobs.celery.patience import patiently
from service.parts import parts_of
from service.results.record import encode_strictly
from service.worker import log_pipe, log_records  # noqa: F401  they connect to Celery's signals
from service.worker.celery_types import JobRequest
from service.worker.loop.bridge import JobCancelledError, SoftLimitCancelledError
from service.worker.loop.celery_stacks import key_by_job
from service.worker.pool import default_pool  # noqa: F401  as log_pipe
from service.worker.pool.stacks import command  # noqa: F401  as log_pipe
from service.worker.task.context import BodyCall, due_at
from service.worker.task.errbacks import ERRBACK, call_errback, failed_request, run_hook_in_child
from service.worker.task.typed import TypedTask
from service.worker.task.wanted import refuse_unwanted

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
    WANTED = 1  # its record does not say that it was cancelled, or that it ended before
    BEGUN = 2  # the task was called
    IN_BODY = 3  # or after it


_NEW, _WANTED, _BEGUN, _IN_BODY = Phase  # bound once: each job asks seven times


class ContextTask(TypedTask):
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

    def send_event(self, *args: Any, **fields: Any) -> Any:
        """Celery's own, in a thread where the caller runs on the event loop."""
        app: Any = self.app
        return app.off_loop(partial(super().send_event, *args, **fields))

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
        return _run_job(self, request, self.run, args, kwargs)

    def signature_from_request(self, *args: Any, **options: Any) -> Any:
        """Celery's own, which `retry` asks for the next attempt; note when that is due."""
        request: Any = self.request
        request.due_again_at = due_at(options.get("eta"), options.get("countdown"))
        return super().signature_from_request(*args, **options)

    def retry(self, *args: Any, **options: Any) -> Any:
        """Celery's own; an outage is waited for, or the job would be rejected.

        A job whose worker has to stop meanwhile goes back to its queue.
        """
        try:
            with patiently():
                return super().retry(*args, **options)
        except Reject as error:
            reject: Any = error
            reject.requeue |= isinstance(reject.reason, UnavailableError)
            raise

    def on_replace(self, sig: Any) -> Any:
        """Celery's own; the job goes on as another call, by the Ignore that this raises."""
        request: Any = self.request
        request.goes_on = True
        return super().on_replace(sig)


def _run_job(
    task: ContextTask,
    request: JobRequest,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a user's function of a job, with arguments and a value of the types that it names.

    A value that goes to other jobs is refused if it cannot be stored, as Celery sends these first.
    Raises UnstorableResultError.
    """
    args, kwargs = task.decoded(args, kwargs)
    try:
        value = task.encoded(_survivable(function, args, kwargs))
    except Ignore:
        _end_ignored(task, request)
        raise
    if request.callbacks or request.chain:
        app: Any = task.app
        encode_strictly(value, parts_of(app.quart_app).settings.max_result)
    return value


def _end_ignored(task: ContextTask, request: JobRequest) -> None:
    """End a job that has raised Ignore, which Celery does not; not one that goes on elsewhere."""
    if not (request.is_eager or getattr(request, "goes_on", False)):
        task.backend.mark_as_revoked(request.id, "ignored", request=request)


def _begin(task: ContextTask, request: JobRequest) -> None:
    """Note that the job runs from here on. Raises Ignore where it is not to run."""
    if request._protected == _NEW:
        refuse_unwanted(task, request)
    request._protected = _BEGUN
    if request.headers:  # a copy for the body, which may change it: Celery's worker has the other
        request.headers = dict(request.headers)


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
            refuse_unwanted(self, request)
            request._protected = _WANTED
        call = BodyCall(self, request, function, args, kwargs)
        try:
            return _survivable(call.run, (), {})
        except Ignore:
            if name == "before_start":
                _end_ignored(self, request)
            raise

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
        return _run_job(self, request, function, args, kwargs)

    setattr(wrapper, _WRAPPED, True)
    cls.__call__ = wrapper  # type: ignore[method-assign]  # as with `run`
