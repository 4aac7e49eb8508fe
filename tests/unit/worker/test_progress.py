"""How often a job's progress is written, and that the last of it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from service.results.model import Progress
from service.worker.task.context import INTERVAL, ProgressWriter


class Written:
    """What would have reached Redis, which takes a moment."""

    def __init__(self) -> None:
        self.reports: list[float] = []

    async def store(self, progress: Progress) -> None:
        await asyncio.sleep(0.001)
        self.reports.append(progress.current)


def report_for(seconds: float, writer: ProgressWriter) -> int:
    """Report in a tight loop; how often."""
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        count += 1
        writer.report(Progress(current=count, total=None, note=""))
    return count


async def report_in_thread(writer: ProgressWriter) -> int:
    return await asyncio.to_thread(report_for, 3.5 * INTERVAL, writer)


async def report_on_loop(writer: ProgressWriter) -> int:
    count = 0
    for _ in range(7):
        count = report_for(INTERVAL / 2, writer)
        await asyncio.sleep(0)
    return count


@pytest.mark.parametrize("body", [report_in_thread, report_on_loop])
async def test_a_tight_loop_does_not_flood_redis(
    body: Callable[[ProgressWriter], Awaitable[int]],
) -> None:
    """Thousands of reports make a few writes; the last of them is always written."""
    written = Written()
    writer = ProgressWriter(asyncio.get_running_loop(), written.store)
    began = time.monotonic()
    last = await body(writer)
    await writer.finish()
    at_most = (time.monotonic() - began) / INTERVAL + 2  # the first, and the last
    assert written.reports[-1] == last
    assert 2 <= len(written.reports) <= at_most


async def test_reports_right_before_the_end_leave_the_last() -> None:
    """Nobody has been told of the first yet when the second comes."""
    written = Written()
    writer = ProgressWriter(asyncio.get_running_loop(), written.store)
    for current in (1, 2):
        writer.report(Progress(current=current, total=None, note=""))
    await writer.finish()
    assert written.reports == [2]
