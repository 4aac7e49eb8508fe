"""Finishes what was begun for a caller, also if the caller goes away."""

import asyncio
from collections.abc import Coroutine
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
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def aclose(self, *, timeout: float) -> None:
        """Give those that go on so many seconds; then cancel them, and wait for their end."""
        if not self._tasks:
            return
        _, late = await asyncio.wait([*self._tasks], timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
