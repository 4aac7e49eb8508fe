"""What the reader found at one moment, and the figures that the pages make of it; pure."""

from dataclasses import dataclass, field
from typing import Final

from service.broker.pauses import Pause
from service.dashboard.events.failures import FailureGroup
from service.dashboard.events.stats import STEP, TaskStats
from service.signals import WorkerStatus

_GONE_AFTER: Final = 5.0  # seconds without a report; workers report every second
_LAST_MINUTE: Final = 60 // STEP  # buckets


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it last reported, `age` seconds ago."""

    name: str
    age: float
    status: WorkerStatus

    @property
    def is_alive(self) -> bool:
        """Whether it still reports."""
        return self.age < _GONE_AFTER


@dataclass(frozen=True, slots=True)
class Queue:
    """How many messages of a queue wait, are delivered to workers that report, or are dead.

    Those of `scheduled` jobs are not due yet, and not among those that wait. So many
    `workers` take from it.
    """

    name: str
    waiting: int
    scheduled: int
    deliveries: int
    dead: int
    workers: int = 0
    pause: Pause | None = None
    oldest: float | None = None  # seconds that the first of those that wait has waited
    rate_in: float = 0.0  # jobs per second, in the last minute
    rate_out: float = 0.0

    @property
    def empty_in(self) -> float | None:
        """Seconds until nothing waits, if it goes on so; None where it would not end."""
        falling = self.rate_out - self.rate_in
        return self.waiting / falling if self.waiting and falling > 0 else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All but the list of jobs. `problem` says why the rest is out of date, if it is."""

    workers: tuple[Worker, ...] = ()
    queues: tuple[Queue, ...] = ()
    deliveries: int = 0  # those of workers that are gone included
    points: tuple[tuple[int, TaskStats], ...] = ()  # when each bucket begins, and what jobs did
    total: TaskStats = field(default_factory=TaskStats)
    tasks: dict[str, TaskStats] = field(default_factory=dict)
    failures: tuple[FailureGroup, ...] = ()  # the one with the newest failure first
    at: float = 0.0  # when it was read, by Redis's clock
    jobs: int = 0
    problem: str = ""

    @property
    def alive(self) -> tuple[Worker, ...]:
        """The workers that report."""
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def orphaned(self) -> int:
        """Deliveries of workers that do not report any more."""
        return max(0, self.deliveries - sum(queue.deliveries for queue in self.queues))

    @property
    def per_second(self) -> float:
        """Jobs that ended in the last minute, by the second."""
        last_minute = self.points[-1 - _LAST_MINUTE : -1]
        ended = sum(stats.finished for _, stats in last_minute)
        return ended / (STEP * len(last_minute)) if last_minute else 0.0

    @property
    def slowest_tasks(self) -> list[tuple[str, TaskStats]]:
        """The tasks of the last hour by name, the slowest first."""
        found = [(name, of) for name, of in self.tasks.items() if of.finished or of.retried]
        return sorted(found, key=lambda task: (-(task[1].mean or 0), task[0]))

    def rows(self, *, since: int) -> list[list[float | None]]:
        """A row for each bucket from `since` on, for the charts: when, queued, ended well and badly
        (jobs per second), and within how many seconds half and nearly all of them ran. The last,
        unfinished, is left out.
        """
        return [
            [
                at,
                stats.queued / STEP,
                stats.ok / STEP,
                (stats.failed + stats.revoked) / STEP,
                stats.quantile(0.5),
                stats.quantile(0.95),
            ]
            for at, stats in self.points[:-1]
            if at >= since
        ]
