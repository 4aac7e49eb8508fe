"""What the dashboard shows at one moment; pure data."""

from dataclasses import dataclass, field

from service.dashboard.events.stats import TaskStats
from service.dashboard.events.status import GONE_AFTER
from service.signals import WorkerStatus


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it last reported, `age` seconds ago."""

    name: str
    age: float
    status: WorkerStatus

    @property
    def is_alive(self) -> bool:
        """Whether it reports still."""
        return self.age < GONE_AFTER


@dataclass(frozen=True, slots=True)
class Queue:
    """How many jobs are where of a queue."""

    name: str
    waiting: int
    held: int
    dead: int


@dataclass(frozen=True, slots=True)
class Point:
    """What all jobs did in one bucket of time; `at` is its beginning."""

    at: int
    stats: TaskStats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All but the list of jobs. `problem` says why what is shown is old, if it is."""

    at: float = 0.0
    workers: tuple[Worker, ...] = ()
    queues: tuple[Queue, ...] = ()
    held: int = 0
    points: tuple[Point, ...] = ()
    tasks: dict[str, TaskStats] = field(default_factory=dict)
    jobs: int = 0
    problem: str = ""

    @property
    def alive(self) -> tuple[Worker, ...]:
        """The workers that report."""
        return tuple(worker for worker in self.workers if worker.is_alive)

    @property
    def orphaned(self) -> int:
        """Jobs that are held, but by no worker that reports."""
        return max(0, self.held - sum(queue.held for queue in self.queues))
