"""One job under the asyncio pool, from Celery's call of the pool to the report of the job's end."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, Protocol

from billiard.einfo import ExceptionInfo
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Terminated

from service.errors import TaskAbortedError
from service.worker.loop.bridge import (
    Bridge,
    BridgePhase,
    EndReason,
    JobCancelledError,
    SoftLimitCancelledError,
    bridge_task,
)
from service.worker.loop.celery_stacks import enter_job, own_stacks
from service.worker.pool.main_thread import MainThread
from service.worker.pool.tracer_call import TracerCall, call_back, let_go

logger: Final = logging.getLogger(__name__)

CANCEL_TIME: Final = 5.0  # seconds that a cancelled job has to end before it is left behind
_LOST: Final = (
    "The worker stopped before the job had ended. It does not run again, as it was acknowledged"
    " when it began (`acks_late=False`)."
)


class JobPool(Protocol):
    """The part of a pool that its running jobs use."""

    app: Any
    loop: asyncio.AbstractEventLoop
    main_thread: MainThread

    def run_in_bridge(self, function: Callable[[], Any]) -> None:
        """Run synchronous code in a bridge of its own."""

    def free_slot(self, job: "RunningJob") -> None:
        """Take back the job's slot."""


class RunningJob:
    """Runs the tracer in a bridge. Everything here happens on the loop."""

    __slots__ = ("_bridge", "_call", "_is_reported", "_pool", "_timers", "pid", "task")

    def __init__(self, pool: JobPool, call: TracerCall, pid: int) -> None:
        self._pool = pool
        self._call = call
        self._bridge = Bridge(self._trace)
        self._is_reported = False  # to Celery's request, by one of the callbacks
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self.pid = pid
        self.task: asyncio.Task[Any] | None = None  # while the job has its slot

    def __repr__(self) -> str:
        name, job_id, *_ = self._call.args
        return f"{name}[{job_id}]"

    @property
    def function(self) -> Any:
        """The user's function that the job is a call of."""
        return getattr(self._celery_task.run, "__wrapped__", None)

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self._call.args[1])

    @property
    def bridge(self) -> Bridge:
        """What it runs in."""
        return self._bridge

    @property
    def can_go_back(self) -> bool:
        """Whether the job's message is not acknowledged, so that it can be requeued."""
        return bool(self._celery_task.acks_late)

    def start(self) -> None:
        """Begin, in a context of the job's own."""
        context = copy_context()
        context.run(enter_job, self)
        self.task = bridge_task(self._bridge.run(), self._pool.loop, context)
        if self._call.soft_limit:
            self._call_later(self._call.soft_limit, self._on_soft_limit)
        if self._call.hard_limit:
            self._call_later(self._call.hard_limit, self._on_hard_limit)

    def requeue_if_cut_off(self) -> None:
        """See to a job whose asyncio task was cancelled before the task's first step."""
        if self.task is not None and self.task.cancelled():
            self.leave_behind()

    def revoke(self) -> None:
        """Cancel the body. Celery has stored REVOKED and acknowledged already."""
        self._end(EndReason.CANCELLED)

    def give_back(self) -> None:
        """Cancel the job wherever it is, and requeue its message.

        Not so a body that runs in a thread, and can't be stopped: its end counts, whenever it
        comes.
        """
        if self._bridge.thread is None:
            self._bridge.end(EndReason.GIVEN_BACK, anywhere=True)

    def leave_to_the_end(self) -> None:
        """Let the job go on until the process ends. Its message, if it is held, goes back then.

        Called in the main thread, where the loop may be blocked.
        """
        if not self.can_go_back:
            self._report_error(TaskAbortedError(_LOST))

    def leave_behind(self) -> None:
        """Report the job's end although it goes on, and free its slot."""
        self._report_cancelled()
        self._leave()

    @property
    def _celery_task(self) -> Any:
        return self._pool.app.tasks[self._call.args[0]]

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self._timers += (self._pool.loop.call_later(seconds, function),)

    def _end(self, reason: EndReason, *, anywhere: bool = False) -> None:
        self._bridge.end(reason, anywhere=anywhere)
        self._call_later(CANCEL_TIME, self._on_stubborn)

    def _on_stubborn(self) -> None:
        logger.error(
            "%r does not end although it was cancelled: it goes on, and its slot is free", self
        )
        self.leave_behind()
        self._bridge.cancel_wait()

    def _trace(self) -> None:
        call = self._call
        if call.on_accepted is not None:
            self._pool.main_thread.call(call.on_accepted, self.pid, time.monotonic())
        try:
            outcome = call.trace()
        except (JobCancelledError, asyncio.CancelledError) as error:
            let_go(error)
            self._report_cancelled()
        except MemoryError as error:
            self._report_error(TaskAbortedError(f"The job raised {error!r}."))
        except Exception as error:  # noqa: BLE001  Celery stores and logs it
            self._report_error(error)
        except BaseException as error:  # noqa: BLE001  the same, and it must not end the loop
            self._report_error(TaskAbortedError(f"The job raised {error!r}."))
        else:
            if outcome[0]:  # the job has failed, or is retried
                let_go(outcome[1].exception)
            self._report(call.on_success, outcome)
        finally:
            self._leave()

    def _on_soft_limit(self) -> None:
        limit = self._call.soft_limit
        if self._is_reported or self._bridge.body_is_over:
            return
        if self._call.on_timeout is not None:
            self._pool.main_thread.call(self._call.on_timeout, True, limit)
        self._bridge.interrupt(SoftLimitCancelledError(limit))

    def _on_hard_limit(self) -> None:
        """Have Celery report the failure, then end the body. After the body, end its hooks."""
        if self._is_reported:
            return
        if not self._bridge.body_is_over:
            self._is_reported = True
            if (on_timeout := self._call.on_timeout) is not None:

                def report() -> None:  # Celery calls hooks from there, which need the request
                    request: Any = Context(self._call.args[2], called_directly=False)
                    with own_stacks(self._celery_task, request):
                        on_timeout(False, self._call.hard_limit)

                self._pool.run_in_bridge(report)
            self._end(EndReason.HARD_LIMIT, anywhere=True)
        elif self._bridge.phase is BridgePhase.AROUND:
            # The outcome is being stored, and hooks are to come: look again after the same time.
            self._call_later(self._call.hard_limit or 0.0, self._on_hard_limit)
        else:
            logger.warning("A hook of %r takes longer than the hard time limit allows", self)
            self._end(EndReason.HOOK_LIMIT)

    def _report_cancelled(self) -> None:
        error: BaseException
        match self._bridge.end_reason:
            case EndReason.GIVEN_BACK if self.can_go_back:
                error = Reject("The worker stops", requeue=True)
            case EndReason.GIVEN_BACK:
                error = TaskAbortedError(_LOST)
            case EndReason.HOOK_LIMIT:
                error = Ignore("The outcome is stored; it was a hook that was cancelled.")
            case None if self.can_go_back:  # outside of the body, by another job's
                error = Reject("Something else cancelled the job", requeue=True)
            case _:
                error = Terminated("revoked")
        self._report_error(error)

    def _report_error(self, error: BaseException) -> None:
        try:
            raise error  # noqa: TRY301  billiard's ExceptionInfo needs a traceback
        except BaseException:  # noqa: BLE001  it was raised one line above
            info = ExceptionInfo()
        let_go(error)
        self._report(self._call.on_error, info)

    def _report(self, callback: Callable[..., Any] | None, outcome: Any) -> None:
        if self._is_reported or callback is None:
            self._call.is_over = True
            return
        self._is_reported = True
        self._pool.main_thread.call(call_back, self._call, callback, outcome)

    def _leave(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = ()
        self.task = None
        self._pool.free_slot(self)
