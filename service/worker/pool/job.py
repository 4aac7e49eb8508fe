"""One job under the asyncio pool, from its start to what the worker is told of its end."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Final, Protocol

from billiard.einfo import ExceptionInfo
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Terminated

from service.errors import TaskAbortedError
from service.worker.loop.bridge import Bridge, Stretch, bridge_task
from service.worker.loop.celery_stacks import enter_job, own_stacks
from service.worker.loop.exceptions import JobCancelledError, SoftLimitCancelledError

logger: Final = logging.getLogger(__name__)

# The job that code on the loop belongs to, its child tasks included.
running_job: Final[ContextVar["RunningJob"]] = ContextVar("running_job_on_loop")

CANCEL_TIME: Final = 5.0  # seconds that a cancelled job has to end before it is left behind
_TRACER_TAKES: Final = 6  # arguments, of Celery's tracer
_LOST: Final = (
    "The worker stopped before the job had ended. It does not run again, as it was acknowledged"
    " when it began (`acks_late=False`)."
)


@dataclass(slots=True, weakref_slot=True, eq=False)
class Call:
    """What Celery's worker hands to a pool: the tracer, its arguments, and whom to tell what.

    Celery's request refers to it weakly. It lives until the main thread has been told of the
    job's end: by that the transport knows, after a lost connection, whom the pool still has.
    """

    target: Callable[..., Any]
    args: Any
    kwargs: Any
    on_accepted: Callable[..., Any] | None
    on_success: Callable[..., Any] | None
    on_error: Callable[..., Any] | None
    on_timeout: Callable[..., Any] | None
    soft_limit: float | None  # seconds
    hard_limit: float | None  # seconds

    def terminate(self, signal: Any = None) -> None:
        """Nothing: Celery asks this of what a pool answers, after it has asked the pool."""

    def trace(self) -> Any:
        """Run the tracer, and with it the job."""
        if self.kwargs or len(self.args) != _TRACER_TAKES:
            return self.target(*self.args, **self.kwargs)
        # The same without a star, for which Python would call it by way of C: that is 400 bytes of
        # stack for as long as the job waits.
        name, job_id, request, body, content_type, encoding = self.args
        return self.target(name, job_id, request, body, content_type, encoding)

    @property
    def task_name(self) -> str:
        """The task's name: the first of what Celery's tracer takes."""
        return str(self.args[0])

    @property
    def job_id(self) -> str:
        """The job's id: the second of what Celery's tracer takes."""
        return str(self.args[1])

    @property
    def request(self) -> dict[str, Any]:
        """The job's request: the third of what Celery's tracer takes."""
        request: dict[str, Any] = self.args[2]
        return request


class Host(Protocol):
    """What a running job needs of its pool."""

    app: Any
    loop: asyncio.AbstractEventLoop

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Make a call in the worker's main thread; calls are made in the order given."""

    def run_aside(self, function: Callable[[], Any]) -> None:
        """Run synchronous code in a bridge of its own."""

    def ended(self, job: "RunningJob") -> None:
        """Take back the job's place."""


class RunningJob:
    """Runs the tracer in a bridge. Everything here happens on the loop."""

    __slots__ = (
        "_bridge",
        "_call",
        "_giving_back",
        "_hook_cancelled",
        "_host",
        "_reported",
        "_task",
        "_timers",
        "pid",
    )

    def __init__(self, host: Host, call: Call, pid: int) -> None:
        self._host = host
        self._call = call
        self._bridge = Bridge(self._trace)
        self._giving_back = False
        self._hook_cancelled = False
        self._reported = False
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self.pid = pid
        self._task: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"{self._call.task_name}[{self._call.job_id}]"

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The asyncio task that the job runs in."""
        return self._task

    @property
    def call(self) -> Call:
        """What is run."""
        return self._call

    @property
    def function(self) -> Any:
        """The user's function that the job is a call of."""
        return getattr(self._host.app.tasks[self._call.task_name].run, "__wrapped__", None)

    def start(self) -> None:
        """Begin, in a context of the job's own."""
        loop, call = self._host.loop, self._call
        context = copy_context()
        context.run(running_job.set, self)
        self._task = bridge_task(self._bridge.run(), loop, context)
        if call.soft_limit:
            self._timers += (loop.call_later(call.soft_limit, self._on_soft_limit),)
        if call.hard_limit:
            self._timers += (loop.call_later(call.hard_limit, self._on_hard_limit),)

    def revoke(self) -> None:
        """Cancel the body. Celery has stored REVOKED and acknowledged already."""
        self._bridge.cancel()
        self._have_it_end()

    @property
    def can_go_back(self) -> bool:
        """Whether the job's message is still there to be put back into the queue."""
        return bool(self._host.app.tasks[self._call.task_name].acks_late)

    def give_back(self) -> None:
        """Cancel the job wherever it is, and put its message back into the queue."""
        self._giving_back = True
        self._bridge.abort()

    def leave_behind(self) -> None:
        """Give the message back although the job has not ended; its place is free from now on."""
        self._giving_back = True
        self._report_cancelled()
        self._leave()

    def _have_it_end(self) -> None:
        """Look after a while whether the job, which was cancelled, has ended."""
        self._timers += (self._host.loop.call_later(CANCEL_TIME, self._on_stubborn),)

    def _on_stubborn(self) -> None:
        logger.error(
            "%r does not end although it was cancelled: it goes on, and its place is free", self
        )
        self._report_cancelled()
        self._bridge.abort()
        self._leave()

    def _trace(self) -> None:
        enter_job()
        call = self._call
        if call.on_accepted is not None:
            self._host.tell(call.on_accepted, self.pid, time.monotonic())
        try:
            outcome = call.trace()
        except (JobCancelledError, asyncio.CancelledError):
            self._report_cancelled()
        except MemoryError as error:
            self._report_error(TaskAbortedError(f"The job raised {error!r}."))
        except Exception as error:  # noqa: BLE001  told to Celery, which stores and logs it
            self._report_error(error)
        except BaseException as error:  # noqa: BLE001  the same, and it must not end the loop
            self._report_error(TaskAbortedError(f"The job raised {error!r}."))
        else:
            self._report(call.on_success, outcome)
        finally:
            self._leave()

    def _on_soft_limit(self) -> None:
        limit = self._call.soft_limit
        if self._reported or self._bridge.body_is_over:
            return
        if self._call.on_timeout is not None:
            self._host.tell(self._call.on_timeout, True, limit)
        self._bridge.interrupt(SoftLimitCancelledError(limit))

    def _on_hard_limit(self) -> None:
        """Have Celery report the failure; then end the body, whose outcome nobody asks for."""
        if self._reported:
            return
        if self._bridge.body_is_over:
            self._end_hook()
            return
        self._reported = True
        if self._call.on_timeout is not None:
            self._host.run_aside(self._tell_hard_limit)
        self._bridge.abort()
        self._have_it_end()

    def _end_hook(self) -> None:
        """What the body has done is good; no hook that comes after it may go on for ever."""
        if self._bridge.stretch is Stretch.AROUND:  # its outcome waits for Redis: hooks are to come
            again = self._host.loop.call_later(self._call.hard_limit or 0.0, self._on_hard_limit)
            self._timers += (again,)
            return
        logger.warning("A hook of %r takes longer than the hard time limit allows", self)
        self._hook_cancelled = True
        self._bridge.cancel()
        self._have_it_end()

    def _tell_hard_limit(self) -> None:
        """Celery calls the task's hooks from there: they need the request, as in the tracer."""
        call = self._call
        assert call.on_timeout is not None  # noqa: S101  the caller looked
        task = self._host.app.tasks[call.task_name]
        with own_stacks(task, Context(call.request, called_directly=False)):
            call.on_timeout(False, call.hard_limit)

    def _report_cancelled(self) -> None:
        if self._giving_back and self.can_go_back:
            self._report_error(Reject("The worker stops", requeue=True))
        elif self._giving_back:
            self._report_error(TaskAbortedError(_LOST))
        elif self._hook_cancelled:
            self._report_error(Ignore("The outcome is stored; it was a hook that was cancelled."))
        else:
            self._report_error(Terminated("revoked"))

    def _report_error(self, error: BaseException) -> None:
        try:
            raise error  # noqa: TRY301  billiard's ExceptionInfo needs a traceback
        except BaseException:  # noqa: BLE001  it was raised one line above
            info = ExceptionInfo()
        self._report(self._call.on_error, info)

    def _report(self, tell: Callable[..., Any] | None, outcome: Any) -> None:
        if not self._reported and tell is not None:
            self._reported = True
            self._host.tell(_report_end, self._call, tell, outcome)

    def _leave(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = ()
        self._task = None
        self._host.ended(self)


def _report_end(call: Call, tell: Callable[..., Any], outcome: Any) -> None:
    """Tell the worker how a call ended, which lives until then."""
    del call
    tell(outcome)
