"""Lets the asyncio tasks that a job starts wait in synchronous code, as its body can.

The body has one bridge for its whole life. There may be thousands of child tasks, so they have none
of their own: each of their steps borrows a bridge, and keeps it only while it waits in synchronous
code, as `delay()` does for Redis.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final

from greenlet import GreenletExit, getcurrent, greenlet

from service.worker.loop.bridge import Bridge, BridgeGreenlet
from service.worker.loop.celery_stacks import job_of
from service.worker.loop.forks import COPIES, end_copy

_MAX_IDLE: Final = 16  # bridges kept for the next steps
_ENDED: Final = object()  # a bridge hands this up when a step has ended


class ChildTasks:
    """Makes the tasks of one event loop."""

    def __init__(self) -> None:
        self.idle: list[_Borrowed] = []  # bridges that wait to be borrowed

    def make(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Any,
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        """Make a task as asyncio does (a task factory); a job's can wait in synchronous code."""
        context = copy_context() if context is None else context
        if job_of(context) is not None:
            coroutine = ChildCoroutine(coroutine, context, self.idle)
        return asyncio.Task(coroutine, loop=loop, context=context, **options)


class ChildCoroutine(Coroutine[Any, Any, Any]):
    """Drives a coroutine step by step for its task; all other attributes are the coroutine's."""

    __slots__ = ("_bridge", "_coroutine", "_idle", "context")

    def __init__(self, coroutine: Any, context: Context, idle: list["_Borrowed"]) -> None:
        self._coroutine = coroutine
        self._idle = idle
        self._bridge: _Borrowed | None = None  # while a step waits in synchronous code
        self.context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        found: Generator[Any, Any, Any] = self._coroutine.__await__()
        return found

    def send(self, value: Any) -> Any:
        """Go on to where the coroutine waits next."""
        if self._bridge is not None:
            return self._outcome(self._bridge, self._bridge.switch(value))
        bridge = self._borrow()
        return self._outcome(bridge, bridge.switch(self._coroutine.send, value))

    def throw(self, error: Any, *others: Any) -> Any:
        """The same, with an error raised where the coroutine waits."""
        if self._bridge is not None:
            return self._outcome(self._bridge, self._bridge.throw(error, *others))
        bridge = self._borrow()
        return self._outcome(bridge, bridge.switch(self._coroutine.throw, error))

    def close(self) -> None:
        """End the coroutine where it waits."""
        if self._bridge is None:
            self._coroutine.close()
            return
        try:
            self.throw(GreenletExit())
        except (GreenletExit, StopIteration):
            return
        raise RuntimeError("The coroutine ignored that it was to end.")

    def _borrow(self) -> "_Borrowed":
        bridge = self._idle.pop() if self._idle else _Borrowed(self._idle, getcurrent())
        bridge.gr_context = self.context
        return bridge

    def _outcome(self, bridge: "_Borrowed", handed_up: Any) -> Any:
        """Return or raise as the step did; or return the future that code in it waits for."""
        if handed_up is not _ENDED:
            self._bridge = bridge
            return handed_up
        self._bridge = None
        yielded, error = bridge.outcome
        bridge.outcome = None, None
        if not bridge.dead:
            if error is not None or self._idle:
                bridge.gr_context = None  # an idle bridge would keep the job's context
            self._idle.append(bridge)
        if error is None:
            return yielded
        try:
            raise error
        finally:
            del error  # its traceback holds this frame


class _Borrowed(BridgeGreenlet):
    """A bridge that makes one step after another, each of any coroutine."""

    def __init__(self, idle: list["_Borrowed"], loop_greenlet: greenlet) -> None:
        super().__init__(_make_steps, loop_greenlet)
        self.bridge = Bridge(_make_steps)
        self.idle = idle
        self.outcome: tuple[Any, BaseException | None] = None, None  # of the last step


def _make_steps(step: Callable[[Any], Any], value: Any) -> object:
    """Make this step, then each step that `switch` passes to the idle greenlet."""
    me: Any = getcurrent()
    hand_up = me.parent.switch
    while True:
        try:
            me.outcome = step(value), None
        except BaseException as error:  # noqa: BLE001  it is raised where the step was asked for
            me.outcome = None, error
        if COPIES:
            end_copy()
        del step, value  # or an idle bridge would keep the last job's
        if len(me.idle) >= _MAX_IDLE:
            return _ENDED
        step, value = hand_up(_ENDED)
