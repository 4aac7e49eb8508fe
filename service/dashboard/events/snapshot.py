"""What the reader found at one moment, and the figures that the pages make of it; pure."""

from dataclasses import dataclass, field
from typing import Final

from service.broker.pauses import Pause
from service.dashboard.events.failures import FailureGroup
from service.dashboard.events.lanes import Worker
from service.dashboard.events.stats import TaskStats

_MAX_PAUSED: Final = 50  # tasks in the table
_MAX_TASKS: Final = 12  # others


@dataclass(frozen=True, slots=True)
class Queue:
    """How many messages of a queue wait, are delivered to workers that report, or are dead.

    Those of `scheduled` jobs are not due yet, and those of `paused` tasks are not to be taken:
    neither are among those that wait. So many `workers` take from it. None is for what the broker
    does not tell.
    """

    name: str
    waiting: int | None
    scheduled: int | None
    deliveries: int
    dead: int
    workers: int = 0
    paused: int = 0
    pause: Pause | None = None
    oldest: float | None = None  # seconds that the first of those that wait has waited
    rate_in: float | None = 0.0  # jobs per second, in the last minute
    rate_out: float = 0.0

    @property
    def empty_in(self) -> float | None:
        """Seconds until nothing waits, if it goes on so; None where it would not end."""
        falling = self.rate_out - (self.rate_in or 0.0)
        return self.waiting / falling if self.waiting and falling > 0 else None


@dataclass(frozen=True, slots=True)
class PausedTask:
    """The pause of a task, and how many of its jobs workers have moved aside since."""

    pause: Pause
    jobs: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All but the list of jobs. `problem` says why the rest is out of date, if it is."""

    workers: tuple[Worker, ...] = ()
    queues: tuple[Queue, ...] = ()
    paused_tasks: dict[str, PausedTask] = field(default_factory=dict)
    deliveries: int = 0  # those of workers that are gone included
    per_second: float = 0.0  # jobs that ended, in the last minute
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
    def waiting(self) -> int | None:
        """How many messages wait, in all queues whose number is known; None if none is known."""
        known = [queue.waiting for queue in self.queues if queue.waiting is not None]
        return sum(known) if known or not self.queues else None

    @property
    def orphaned(self) -> int:
        """Deliveries of workers that do not report any more."""
        return max(0, self.deliveries - sum(queue.deliveries for queue in self.queues))

    @property
    def slowest_tasks(self) -> list[tuple[str, TaskStats]]:
        """The tasks of the last hour by name, the slowest first."""
        found = [(name, of) for name, of in self.tasks.items() if of.finished or of.retried]
        return sorted(found, key=lambda task: (-(task[1].mean or 0), task[0]))

    @property
    def shown_tasks(self) -> list[tuple[str, TaskStats]]:
        """The paused tasks by name, then the slowest others: those that a page has room for."""
        paused = [(name, self.tasks.get(name, TaskStats())) for name in sorted(self.paused_tasks)]
        others = [task for task in self.slowest_tasks if task[0] not in self.paused_tasks]
        return [*paused[:_MAX_PAUSED], *others[:_MAX_TASKS]]
