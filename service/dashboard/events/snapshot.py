"""What the dashboard shows at one moment; pure data."""

from dataclasses import dataclass, field
from typing import Final

from service.dashboard.events.stats import TaskStats
from service.signals import WorkerStatus

_GONE_AFTER: Final = 5.0  # seconds without a report; workers report every second


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
    """How many messages of a queue wait, are delivered to workers that report, or are dead."""

    name: str
    waiting: int
    deliveries: int
    dead: int


@dataclass(frozen=True, slots=True)
class Point:
    """What all jobs did in one bucket of time; `at` is its beginning."""

    at: int
    stats: TaskStats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All but the list of jobs. `problem` says why the rest is out of date, if it is."""

    at: float = 0.0
    workers: tuple[Worker, ...] = ()
    queues: tuple[Queue, ...] = ()
    deliveries: int = 0  # those of workers that are gone included
    points: tuple[Point, ...] = ()
    total: TaskStats = field(default_factory=TaskStats)
    tasks: dict[str, TaskStats] = field(default_factory=dict)
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
