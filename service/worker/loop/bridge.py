"""Lets synchronous code await: it runs in a greenlet on the event loop, without a thread.

Celery's tracer is synchronous, and between its first line and its last there is a body that may
be a coroutine, and a result to be stored. In a bridge the tracer runs on the loop unchanged; where
it has to wait, `await_` hands the awaitable up to the loop, which switches back when it is done.

Nothing may hold a lock across an `await_`: other jobs run in the same thread meanwhile.
"""

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import Any, ClassVar, TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from greenlet import getcurrent, greenlet

from service.worker.loop.forks import COPIES, end_copy

V = TypeVar("V")


class EndReason(Enum):
    """Why a job that runs under the asyncio pool is made to end."""

    CANCELLED = "cancelled"  # Celery has stored REVOKED and acknowledged
    HARD_LIMIT = "hard limit"  # Celery stores the failure
    HOOK_LIMIT = "hook limit"  # the outcome is stored and stays: only a hook is cut short
    GIVEN_BACK = "given back"  # the worker stops


class SoftLimitCancelledError(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as a body meets it.

    Also a cancellation, because TaskGroup and `asyncio.timeout` clean up only for that.
    """


class JobCancelledError(BaseException):
    """Ends a job that has an EndReason.

    Not an Exception, so that it passes through Celery's tracer, which would store it.
    """


class BridgePhase(Enum):
    """What a bridge is doing, which decides whether it can be interrupted."""

    AROUND = "around"  # Celery's own code, or storing: not to be interrupted
    COROUTINE = "coroutine"  # a body or a hook that is a coroutine
    THREAD = "thread"  # a sync body or hook in a thread, for which the bridge only waits
    ERRBACK = "errback"  # called since the job has ended: cancelling that is not meant for it


class Bridge:
    """One synchronous call on the loop: `await Bridge(function, *args).run()`."""

    __slots__ = (
        *("_args", "_error", "_function", "_task"),
        *("body_is_over", "end_reason", "greenlet", "phase", "thread"),
    )

    steps: ClassVar[int] = 0  # that all bridges of the process have made, for the watchdog

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._error: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self.phase = BridgePhase.AROUND
        self.body_is_over = False  # hooks may still run: their phase is that of a body
        self.thread: int | None = None  # a body runs in it, where it can't be cancelled
        self.greenlet: BridgeGreenlet | None = None  # while it runs
        self.end_reason: EndReason | None = None

    async def run(self) -> Any:
        """Call the function in a greenlet of its own; returns and raises what it does."""
        loop_greenlet = getcurrent()
        self._task = asyncio.current_task()
        child = BridgeGreenlet(self._function, loop_greenlet)
        # Usually a bound method of the bridge's owner: dropping it breaks the reference cycle, so
        # that a job which has ended is freed at once, without the garbage collector.
        del self._function
        child.bridge = self
        self.greenlet = child
        # The very context of the asyncio task, so that what either sets is seen by both.
        child.gr_context = loop_greenlet.gr_context
        Bridge.steps += 1
        try:
            handed_up = child.switch(*self._args)
            while not child.dead:
                try:
                    value = await _hand_to_loop(handed_up)
                    Bridge.steps += 1
                except BaseException as error:  # noqa: BLE001  it is handed on, not handled
                    handed_up = child.throw(error)
                else:
                    handed_up = child.switch(value)
        finally:
            self._task = self.greenlet = None
        return handed_up

    @property
    def is_over(self) -> bool:
        """Whether the call, which had begun, has ended."""
        return self._task is None

    def interrupt(self, error: BaseException) -> bool:
        """Raise `error` in the coroutine body, where it waits; False where there is none.

        To be called on the loop. The body may catch it and go on.
        """
        if self._task is None or self.phase is not BridgePhase.COROUTINE:
            return False
        self._error = error
        self._task.cancel()
        return True

    def end(self, reason: EndReason, *, anywhere: bool = False) -> None:
        """Cancel the body where it waits, or keep it from starting. On the loop only.

        A body that was cancelled before may clean up, and is not cancelled again. With `anywhere`
        a wait outside of a body is cancelled, too: for a result to be stored, say.
        """
        is_first = self.end_reason is None
        # Cancelling a job that is made to end already does not change how its end is reported.
        if is_first or reason is not EndReason.CANCELLED:
            self.end_reason = reason
        match self.phase:
            case BridgePhase.AROUND:
                is_meant = anywhere
            case BridgePhase.ERRBACK:
                is_meant = reason is not EndReason.CANCELLED
            case _:
                is_meant = is_first
        if is_meant:
            self.cancel_wait()

    def cancel_wait(self) -> None:
        """Cancel whatever the bridge waits for, again if need be. On the loop only."""
        if self._task is not None:
            self._task.cancel()

    def await_body(self, body: Awaitable[V], phase: BridgePhase) -> V:
        """Await a body or a hook from inside the bridge, in this phase."""
        before, self.phase = self.phase, phase
        try:
            return await_(body)
        finally:
            self.phase = before

    def _exchange(self, error: BaseException) -> BaseException:
        """Put the interrupting error in the place of the cancellation that carried it."""
        if self._error is None or not isinstance(error, asyncio.CancelledError):
            return error
        chosen, self._error = self._error, None
        if self._task is not None:
            self._task.uncancel()  # nobody cancelled the job: it may catch the error and go on
        return chosen


class BridgeGreenlet(greenlet):
    """The greenlet that a bridge runs in."""

    bridge: Bridge


def bridge_task(
    coroutine: Coroutine[Any, Any, V],
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context | None,
) -> asyncio.Task[V]:
    """A task for a coroutine that runs a bridge, past the loop's task factory.

    That would lend it another bridge for each step (ChildTasks).
    """
    return asyncio.Task(coroutine, loop=loop, context=context)


@types.coroutine
def _hand_to_loop(waits_for: Any) -> Generator[Any, Any, Any]:
    """Yield to asyncio, unchanged, what the coroutine down in the greenlet yielded."""
    return (yield waits_for)


def current_bridge() -> Bridge | None:
    """The bridge that the calling code runs in, if it does."""
    current = getcurrent()
    return current.bridge if isinstance(current, BridgeGreenlet) else None


def await_(awaitable: Awaitable[V]) -> V:
    """Await from synchronous code inside a bridge. Raises RuntimeError outside of one.

    The awaitable's own frames run in the bridge's greenlet too, so that synchronous code which
    it calls can await as well.
    """
    current = getcurrent()
    if not isinstance(current, BridgeGreenlet) or current.parent is None:
        raise RuntimeError("await_() was called outside of a bridge.")
    hand_up, steps = current.parent.switch, awaitable.__await__()
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waits_for: Any = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as stop:
            result: V = stop.value
            return result
        finally:
            error = None  # else this frame and the error that passes through it were a cycle
            if COPIES:
                end_copy()
        try:
            value = hand_up(waits_for)
        except BaseException as raised:  # noqa: BLE001  it is handed on, not handled
            error = current.bridge._exchange(raised)  # noqa: SLF001
