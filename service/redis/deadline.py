"""Bounds waiting, also in a task that was cancelled before and goes on."""

import asyncio
from types import TracebackType


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
