"""Finishes what was begun for a caller, also if the caller goes away."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

V = TypeVar("V")


class BegunCalls:
    """Runs calls that must not stop half-way, in tasks of their own. To be used on one loop.

    A caller that is cancelled between a job's record and its message would leave a job that never
    ends.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, call: Coroutine[Any, Any, V]) -> V:
        """Await the call, which goes on to its end if the caller is cancelled."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[V] = loop.create_future()
        task = loop.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, outcome))
        return await outcome  # as `asyncio.shield` does it, in less time

    def _end(self, outcome: asyncio.Future[V], task: asyncio.Task[V]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if outcome.done():
            return  # the caller is gone
        if task.cancelled():
            outcome.cancel()
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    async def aclose(self, *, timeout: float) -> None:
        """Give those that go on so many seconds; then cancel them, and wait for their end."""
        if not self._tasks:
            return
        _, late = await asyncio.wait([*self._tasks], timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
