"""The figures of the dashboard: for its charts, its tiles and its table of tasks; pure."""

from dataclasses import dataclass
from typing import Final

from service.dashboard.events.snapshot import Snapshot
from service.dashboard.events.stats import STEP, TaskStats

_MIDDLE: Final = 0.5
_HIGH: Final = 0.95
_ROUGHLY: Final = 1.26  # how far a quantile may be from what it stands for
_LATELY: Final = 6  # buckets that make the last minute


@dataclass(frozen=True, slots=True)
class Figures:
    """What the tiles say."""

    running: int
    capacity: int
    waiting: int
    held: int
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
            point.stats.quantile(_MIDDLE),
            point.stats.quantile(_HIGH),
        ]
        for point in now.points[:-1]
        if point.at >= since
    ]


def figures(now: Snapshot) -> Figures:
    """What the tiles say now."""
    total = TaskStats()
    for stats in now.tasks.values():
        total.ok += stats.ok
        total.failed += stats.failed
        total.revoked += stats.revoked
        total.times.update(stats.times)
    lately = now.points[-1 - _LATELY : -1]
    ended = sum(point.stats.finished for point in lately)
    return Figures(
        running=sum(worker.status.running for worker in now.alive),
        capacity=sum(worker.status.capacity for worker in now.alive),
        waiting=sum(queue.waiting for queue in now.queues),
        held=now.held,
        dead=sum(queue.dead for queue in now.queues),
        per_second=ended / (STEP * len(lately)) if lately else 0.0,
        finished=total.finished,
        failed=total.failed,
        median=total.quantile(_MIDDLE),
        high=total.quantile(_HIGH),
    )


def tasks(now: Snapshot) -> list[TaskFigures]:
    """The tasks of the last hour, the slowest first."""
    found = [
        TaskFigures(name, stats, stats.mean, _high(stats))
        for name, stats in now.tasks.items()
        if stats.finished or stats.retried
    ]
    return sorted(found, key=lambda task: (-(task.mean or 0), task.name))


def _high(stats: TaskStats) -> float | None:
    """The high quantile; where it may as well be the mean, which is known better, no less."""
    mean, high = stats.mean, stats.quantile(_HIGH)
    if mean is None or high is None:
        return high
    return mean if high < mean < high * _ROUGHLY else high
