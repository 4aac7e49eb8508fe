"""The figures of the dashboard: for its charts, its tiles and its table of tasks; pure."""

from dataclasses import dataclass
from typing import Final

from service.dashboard.events.snapshot import Snapshot
from service.dashboard.events.stats import STEP, TaskStats

_MEDIAN: Final = 0.5
_HIGH: Final = 0.95
_PRECISION: Final = 1.26  # factor by which a quantile may be wrong
_LAST_MINUTE: Final = 60 // STEP  # buckets


@dataclass(frozen=True, slots=True)
class Figures:
    """What the tiles say."""

    running: int
    capacity: int
    waiting: int
    dead: int
    per_second: float
    finished: int
    failed: int
    median: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task's last hour."""

    name: str
    stats: TaskStats
    mean: float | None
    high: float | None


def points(now: Snapshot, *, since: int) -> list[list[float | None]]:
    """A row for each bucket from `since` on: when, queued, ended well and badly (jobs per second),
    and within how many seconds half and nearly all of them ran. The last, unfinished, is left out.
    """
    return [
        [
            point.at,
            point.stats.queued / STEP,
            point.stats.ok / STEP,
            (point.stats.failed + point.stats.revoked) / STEP,
            point.stats.quantile(_MEDIAN),
            point.stats.quantile(_HIGH),
        ]
        for point in now.points[:-1]
        if point.at >= since
    ]


def figures(now: Snapshot) -> Figures:
    """What the tiles say now."""
    last_minute = now.points[-1 - _LAST_MINUTE : -1]
    ended = sum(point.stats.finished for point in last_minute)
    return Figures(
        running=sum(worker.status.running for worker in now.alive),
        capacity=sum(worker.status.capacity for worker in now.alive),
        waiting=sum(queue.waiting for queue in now.queues),
        dead=sum(queue.dead for queue in now.queues),
        per_second=ended / (STEP * len(last_minute)) if last_minute else 0.0,
        finished=now.total.finished,
        failed=now.total.failed,
        median=now.total.quantile(_MEDIAN),
        high=now.total.quantile(_HIGH),
    )


def task_figures(now: Snapshot) -> list[TaskFigures]:
    """The tasks of the last hour, the slowest first."""
    found = [
        TaskFigures(name, stats, stats.mean, _high(stats))
        for name, stats in now.tasks.items()
        if stats.finished or stats.retried
    ]
    return sorted(found, key=lambda task: (-(task.mean or 0), task.name))


def _high(stats: TaskStats) -> float | None:
    """The high quantile. Where it may in truth be the mean, it is: the mean is known exactly."""
    mean, high = stats.mean, stats.quantile(_HIGH)
    if mean is not None and high is not None and high < mean < high * _PRECISION:
        return mean
    return high
