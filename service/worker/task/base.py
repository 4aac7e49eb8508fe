"""ContextTask, the Task base that runs every body inside a fresh Quart app context."""

import inspect
import signal
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, Final

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from service.errors import TaskAbortedError
from service.results.record import check_value
from service.worker.loop.celery_stacks import key_by_job
from service.worker.loop.exceptions import JobCancelledError, SoftLimitCancelledError
from service.worker.pool import default_pool as choice  # noqa: F401  it connects to Celery's start-up signals
from service.worker.task.cancellation import refuse_cancelled
from service.worker.task.context import call_in_context
from service.worker.task.errbacks import call_errback, failed_request
from service.worker.task.prefork_hooks import hand_down, hand_down_errback

_HOOKS: Final = ("before_start", "on_success", "on_failure", "on_retry", "after_return")
_ON_THE_WAY: Final = ("service.worker.", "asyncio.", "concurrent.futures.")
_TERMINATED: Final = signal.SIGTERM - 256  # what billiard exits with at a SIGTERM
_WRAPPED: Final = "_runs_in_app_context"
# What `_protected`, by which Celery tells its first call of a task from the others, is set to.
_ASKED: Final = 1  # and it was not cancelled
_BEGUN: Final = 2
_IN_BODY: Final = 3


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
        # The same question as Celery's own __call__ asks, and the same answer for the next one.
        if request is None or request.called_directly or request._protected == _IN_BODY:  # noqa: SLF001
            if (failed := failed_request()) is not None:
                if hand_down_errback(self, failed, args, kwargs):
                    return None
                return _survivable(call_errback, (self, failed, _plain_run(self), args, kwargs), {})
            return super().__call__(*args, **kwargs)
        if request._protected == _BEGUN:  # noqa: SLF001  by a __call__ of the user's own
            return self.run(*args, **kwargs)
        _begin(self, request)
        return _checked_for_others(self, request, _survivable(self.run, args, kwargs))


def _checked_for_others(task: Any, request: Any, value: Any) -> Any:
    """A body's value, with which other jobs are to be sent: Celery does so before it stores it.

    Raises UnstorableResultError.
    """
    if request.callbacks or request.chain:
        check_value(value, task.backend.max_size)
    return value


def _begin(task: ContextTask, request: Any) -> None:
    """Note that the job runs from here on. Raises Ignore where it was cancelled."""
    _refuse_cancelled_once(task, request)
    request._protected = _BEGUN  # noqa: SLF001
    if request.headers:  # a body may change them: not those that Celery's worker has
        request.headers = dict(request.headers)


def _refuse_cancelled_once(task: ContextTask, request: Any) -> None:
    """Raise Ignore where the job was cancelled; asked by `before_start`, or before the body."""
    if not request._protected:  # noqa: SLF001
        refuse_cancelled(task, request)
        request._protected = _ASKED  # noqa: SLF001


def _survivable(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a user's function so that whatever it raises ends the job and not the worker.

    Celery lets MemoryError and whatever is not an Exception through to the worker, which ends.
    """
    try:
        return function(*args, **kwargs)
    except SoftLimitCancelledError as error:
        raise SoftTimeLimitExceeded(*error.args) from None
    except JobCancelledError:
        raise  # the pool cancelled the job, and knows why
    except (WorkerShutdown, WorkerTerminate):
        raise  # the worker's own signal handlers raise these, wherever the main thread is
    except MemoryError as error:
        raise TaskAbortedError(f"The task raised {error!r}.") from error
    except Exception as error:
        error.__traceback__ = _from_the_users_code(error.__traceback__)
        raise
    except SystemExit as error:
        if error.code == _TERMINATED:
            raise  # the job was cancelled, and the pool ends the process that runs it
        raise TaskAbortedError(f"The task raised {error!r}.") from error
    except BaseException as error:
        raise TaskAbortedError(f"The task raised {error!r}.") from error


def _from_the_users_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the way from the worker to the body, which only hides the error.

    Celery copies every frame of it, too: for a job that fails that is most of its cost.
    """
    found = trace
    while found is not None:
        if not str(found.tb_frame.f_globals.get("__name__")).startswith(_ON_THE_WAY):
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
            if name != "run" and request.id and hand_down(self, request, name, args, kwargs):
                return None
            return function(*args, **kwargs)
        if name == "run":
            if request._protected != _BEGUN:  # noqa: SLF001  the body, or a hook, calls it
                return function(*args, **kwargs)
            request._protected = _IN_BODY  # noqa: SLF001
            # __call__ guards it, outside of Celery's autoretry
            return call_in_context(
                self, request, function, args, kwargs, is_body=not request.is_eager
            )
        if name == "before_start":
            _refuse_cancelled_once(self, request)
        return _survivable(call_in_context, (self, request, function, args, kwargs), {})

    setattr(wrapper, _WRAPPED, plain)
    setattr(cls, name, wrapper)


def _plain_run(task: ContextTask) -> Any:
    """The task's function, as its user gave it."""
    plain = getattr(inspect.getattr_static(type(task), "run"), _WRAPPED)
    return plain.__get__(task, type(task))


def _wrap_call(cls: type[ContextTask]) -> None:
    """Have a job begin before the `__call__` of its user's own class, which may not call ours."""
    plain = cls.__call__
    if getattr(plain, _WRAPPED, False):
        return

    @wraps(plain)
    def wrapper(self: ContextTask, *args: Any, **kwargs: Any) -> Any:
        request: Any = self.request_stack.top
        function = plain.__get__(self, type(self))
        if request is None or request.called_directly or request._protected > _ASKED:  # noqa: SLF001
            return function(*args, **kwargs)
        _begin(self, request)
        return _checked_for_others(self, request, _survivable(function, args, kwargs))

    setattr(wrapper, _WRAPPED, True)
    cls.__call__ = wrapper  # type: ignore[method-assign]  # as with `run`
