"""Lets synchronous code await: it runs in a greenlet on the event loop, without a thread.

Celery's tracer is synchronous, and between its first line and its last there is a body that may
be a coroutine and a result to be stored. In a bridge it runs on the loop as it is; where it has
to wait, `await_` hands what it waits for up to the loop and is switched back in when that is done.

Nothing may hold a lock across an `await_`: other jobs run in the same thread meanwhile.
"""

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import Any, ClassVar, TypeVar

from greenlet import getcurrent, greenlet

V = TypeVar("V")


class Stretch(Enum):
    """What a bridge is doing, as far as it matters to who wants to interrupt it."""

    AROUND = "around"  # Celery's own code, hooks, storing: not to be interrupted
    COROUTINE = "coroutine"
    THREAD = "thread"  # a body in a thread, for which the bridge only waits


class Bridge:
    """One synchronous call on the loop: `await Bridge(function, *args).run()`."""

    __slots__ = ("_args", "_error", "_function", "_task", "body_is_over", "cancelled", "stretch")

    steps: ClassVar[int] = 0  # that all bridges of the process have made, for the watchdog

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = args
        self._error: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self.stretch = Stretch.AROUND
        self.body_is_over = False
        self.cancelled = False

    async def run(self) -> Any:
        """Call the function in a greenlet of its own; returns and raises what it does."""
        loop_greenlet = getcurrent()
        self._task = asyncio.current_task()
        child = BridgeGreenlet(self._function, loop_greenlet)
        # It is often a method of whoever holds this bridge: without the cycle a job that has ended
        # is gone at once, and not only when Python looks for garbage.
        del self._function
        child.bridge = self
        # The very context of the asyncio task, so that what either sets is seen by both.
        child.gr_context = loop_greenlet.gr_context
        Bridge.steps += 1
        handed_up = child.switch(*self._args)
        try:
            while not child.dead:
                try:
                    value = await _hand_to_loop(handed_up)
                    Bridge.steps += 1
                except BaseException as error:  # noqa: BLE001  it is handed on, not handled
                    handed_up = child.throw(error)
                else:
                    handed_up = child.switch(value)
        finally:
            self._task = None
        return handed_up

    @property
    def is_over(self) -> bool:
        """Whether the call, which had begun, has ended."""
        return self._task is None

    def interrupt(self, error: BaseException) -> bool:
        """Raise `error` in the coroutine body, where it waits; False where there is none.

        To be called on the loop. The body may catch it and go on.
        """
        if self._task is None or self.stretch is not Stretch.COROUTINE:
            return False
        self._error = error
        self._task.cancel()
        return True

    def cancel(self) -> None:
        """End the body: cancel it where it waits, or keep it from starting. On the loop only."""
        self.cancelled = True
        if self._task is not None and self.stretch is not Stretch.AROUND:
            self._task.cancel()

    def abort(self) -> None:
        """Cancel whatever the bridge waits for, even if that is not a body. On the loop only."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _exchange(self, error: BaseException) -> BaseException:
        """Put the interrupting error in the place of the cancellation that carried it."""
        if self._error is None or not isinstance(error, asyncio.CancelledError):
            return error
        chosen, self._error = self._error, None
        if self._task is not None:
            self._task.uncancel()  # nobody cancelled the job: it may catch the error and go on
        return chosen

    def await_body(self, body: Awaitable[V], kind: Stretch) -> V:
        """Await a body from inside the bridge, so that it can be told from what is around it."""
        before, self.stretch = self.stretch, kind
        try:
            return await_(body)
        finally:
            self.stretch = before

    async def as_coroutine(self, body: Awaitable[V]) -> V:
        """Await, in a body that has run in a thread, the coroutine that it gave."""
        before, self.stretch = self.stretch, Stretch.COROUTINE
        try:
            return await body
        finally:
            self.stretch = before

    def _drive(self, steps: Any, hand_up: Callable[[Any], Any]) -> Any:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                value = hand_up(waits_for)
            except BaseException as raised:  # noqa: BLE001  it is handed on, not handled
                error = self._exchange(raised)


class BridgeGreenlet(greenlet):
    """What a bridge runs in."""

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
    """Yield to asyncio what the coroutine down in the greenlet yielded, as it is."""
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
    value: V = current.bridge._drive(awaitable.__await__(), current.parent.switch)  # noqa: SLF001
    return value
