"""What a worker is measured with while parts of it that observe jobs are switched on and off."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from quart import current_app

from service import TaskBlueprint
from service.dashboard.extension import dashboard_of
from service.metrics.extension import metrics_of
from service.parts import parts_of
from service.worker.job_log import capture

tasks = TaskBlueprint("bench")
logger: Final = logging.getLogger(__name__)
_LOGGERS: Final = (logging.getLogger(), logging.getLogger("celery.task"))
_logs: Final = getattr(capture, "_process")  # noqa: B009


class Turns:
    """Switches between cases, in random order, each time that some jobs have run."""

    def __init__(self, cases: list[str], jobs: int) -> None:
        self._jobs, self._cases = jobs, cases
        self._order: list[str] = []
        self.figures: dict[str, list[float]] = {case: [] for case in cases}
        self._handlers = [
            (each, one)
            for each in _LOGGERS
            for one in each.handlers
            if isinstance(one, capture.JobLogHandler)
        ]
        self._flush: list[Callable[[], object]] = []
        self._begin()

    def count(self) -> None:
        """Take in that a job has run."""
        self._left -= 1
        if not self._left:
            for flush in self._flush:
                flush()
            used = (time.process_time() - self._began) / self._jobs * 1e6
            self.figures[self._order.pop()].append(used)
            self._begin()

    def _begin(self) -> None:
        self._order = self._order or random.sample(self._cases, len(self._cases))
        parts = self._order[-1].split(",")
        recorder, counts = dashboard_of(current_app).recorder, metrics_of(current_app).counts
        receivers = parts_of(current_app).signals.job_changed.receivers
        receivers.clear()
        self._flush.clear()
        if "list" in parts:
            receivers.append(recorder.record)
            self._flush.append(recorder.report)
        if "metrics" in parts:
            receivers.append(counts.record)
            self._flush.append(lambda: counts.record_lag(0.0))
        for each, handler in self._handlers:
            each.removeHandler(handler)
            if "job-log" in parts:
                each.addHandler(handler)
        if "job-log" in parts:
            self._flush += [getattr(each, "_write") for each in _logs]  # noqa: B009
        self._left, self._began = self._jobs, time.process_time()


_turns: Final[list[Turns]] = []


@tasks.task
async def begin(cases: list[str], jobs: int) -> None:
    """Switch between these cases from now on."""
    _turns[:] = [Turns(cases, jobs)]


@tasks.task
async def figures() -> dict[str, Any]:
    """Microseconds of processor time for a job, of the turns of each case."""
    return _turns.pop().figures


@tasks.task
async def noop() -> int:
    if _turns:
        _turns[0].count()
    return 1


@tasks.task
async def one_line() -> int:
    logger.info("The order was shipped")
    if _turns:
        _turns[0].count()
    return 1


@tasks.task
async def talk() -> None:
    """Log ten lines a second for a minute."""
    for number in range(600):
        logger.warning("The order %s was shipped", number)
        await asyncio.sleep(0.1)
