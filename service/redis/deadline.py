"""Bounds waiting, also in a task that was cancelled before and goes on."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple

_AT_ONCE: Final = 20  # futures that end in one turn of the event loop, for what their callers do


class _Waiting(NamedTuple):
    until: float
    future: asyncio.Future[Any]
    error: Callable[[], Exception]


class SharedDeadline:
    """Ends futures that are not done in time, by one timer for all of them.

    For what is waited for very often: a timer of its own for each costs several times as much. All
    have the same time, and are mostly done in the order in which they begin. To be used on one loop
    at a time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, future: asyncio.Future[Any], error: Callable[[], Exception]) -> None:
        """Have the future end with this error, unless it is done in time."""
        waiting, loop = self._waiting, future.get_loop()
        while waiting and waiting[0].future.done():
            waiting.popleft()
        if loop is not self._loop:  # the one before has ended, and its timer with it
            self._loop, self._timer = loop, None
            waiting.clear()
        waiting.append(_Waiting(loop.time() + self._seconds, future, error))
        if self._timer is None:
            self._start(loop)

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        now, ended = loop.time(), 0
        while self._waiting:
            until, future, error = self._waiting[0]
            if not future.done():
                if until > now or ended == _AT_ONCE:
                    break
                future.set_exception(error())
                ended += 1
            self._waiting.popleft()
        self._timer = None
        if self._waiting:
            self._start(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        # In a context of its own, or it would keep that of the request that happened to start it.
        context, until = contextvars.Context(), self._waiting[0].until
        self._timer = loop.call_at(until, self._end, loop, context=context)


class Deadline:
    """`async with Deadline(seconds)`: `asyncio.timeout`, as Python has it since 3.11.3.

    Before, its TimeoutError stays a CancelledError in a task that has a cancellation counted: one
    that was cancelled and cleans up, and one that went on after a TaskGroup had failed, which takes
    back its cancellation only since Python 3.13. Before Python 3.12 `asyncio.wait_for` may lose a
    cancellation where what it waits for ends meanwhile, well or with an error; it is raised at the
    end of the block then. Raises TimeoutError.
    """

    __slots__ = ("_before", "_task", "_timeout")

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  or asyncio.timeout would have refused
        self._task, self._before = task, task.cancelling()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)
        if kind is not asyncio.CancelledError and self._task.cancelling() > self._before:
            raise asyncio.CancelledError from error  # lost by `asyncio.wait_for` in redis-py
        is_ours = self._timeout.expired() and self._task.cancelling() <= self._before
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error
