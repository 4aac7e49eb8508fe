"""Counts what the jobs of this process did, by task; the event loop's lag, and the worker's status.

In plain numbers, which cost a sixth of what metrics of prometheus-client's own do, and have no
locks that a fork copies while another thread holds them.
"""

import os
import threading
import weakref
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from service.results.model import State
from service.signals import JobEvent, WorkerStatus

OTHER: Final = "(other)"  # the label of tasks that are not registered, and of those beyond the most
MAX_TASKS: Final = 200  # that have a label of their own
_BACKLOG: Final = 100_000  # events that are not counted yet; beyond that the oldest go
# Upper bounds in seconds; what is longer counts as `+Inf`.
JOB_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_QUEUED: Final = State.QUEUED.value
ENDS: Final = (State.SUCCESS.value, State.FAILURE.value, State.REVOKED.value)


class Histogram:
    """How many values lie below which bound, and their sum."""

    __slots__ = ("bounds", "numbers", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.numbers = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.numbers[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> "Histogram":
        """The numbers as they are now."""
        copied = Histogram(self.bounds)
        copied.numbers, copied.sum = self.numbers.copy(), self.sum
        return copied


@dataclass(slots=True)
class TaskCounts:
    """What jobs of one task did."""

    enqueued: int = 0
    retried: int = 0
    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    waited: Histogram = field(default_factory=lambda: Histogram(JOB_SECONDS))
    ran: Histogram = field(default_factory=lambda: Histogram(JOB_SECONDS))

    def copy(self) -> "TaskCounts":
        """The counts as they are now."""
        return TaskCounts(
            self.enqueued, self.retried, self.ended.copy(), self.waited.copy(), self.ran.copy()
        )


class Counts:
    """What this process did; any thread may count. A forked process begins with nothing.

    What was recorded is counted twice a second, or when somebody asks, many at once.
    """

    def __init__(self, is_registered: Callable[[str], bool]) -> None:
        self._is_registered = is_registered
        self._events: deque[JobEvent] = deque(maxlen=_BACKLOG)
        self._queued: deque[str] = deque(maxlen=_BACKLOG)  # the tasks of jobs that were accepted
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it at the fork
        self._events.clear()
        self._queued.clear()
        self._tasks: dict[str, TaskCounts] = {}
        self._lag = Histogram(LAG_SECONDS)
        self.status: WorkerStatus | None = None  # of a worker, as it last reported

    def record(self, event: JobEvent) -> None:
        """Take a change of a job at the cost of an append: a receiver of `job_changed`.

        The event of an accepted job is not kept: making the next one costs less where it was.
        """
        if event.state == _QUEUED:
            self._queued.append(event.task)
        else:
            self._events.append(event)

    def add_tasks(self, names: Iterable[str]) -> None:
        """Have tasks counted from 0, so that the first failure of one is an increase, too."""
        with self._lock:
            for name in sorted(names):
                self._counts_of(name)

    def record_worker(self, worker: str, status: WorkerStatus | None) -> None:
        """Keep how the worker is: a receiver of `worker_reported`."""
        del worker
        self.status = status
        with self._lock:
            self._count()

    def record_lag(self, seconds: float) -> None:
        """Take in by how much the event loop was late, which is asked twice a second."""
        with self._lock:
            self._lag.observe(seconds)
            self._count()

    def tasks(self) -> dict[str, TaskCounts]:
        """What was counted so far, by the label of the task."""
        with self._lock:
            self._count()
            return {name: counts.copy() for name, counts in self._tasks.items()}

    def lag(self) -> Histogram:
        """By how much the event loop was late, so far."""
        with self._lock:
            return self._lag.copy()

    def _count(self) -> None:
        """Count what was recorded so far; other threads may record more meanwhile."""
        take_task, take = self._queued.popleft, self._events.popleft
        queued = Counter([take_task() for _ in range(len(self._queued))])
        for task, many in queued.items():
            self._counts_of(task).enqueued += many
        events = [take() for _ in range(len(self._events))]
        for (task, state), many in Counter([(each.task, each.state) for each in events]).items():
            counts = self._counts_of(task)
            if state == State.RETRY:
                counts.retried += many
            elif state in counts.ended:
                counts.ended[state] += many
        for event in events:
            if event.finished_at is not None and event.started_at is not None:  # else it never ran
                _note_times(self._counts_of(event.task), event, event.started_at, event.finished_at)

    def _counts_of(self, task: str) -> TaskCounts:
        """The counts for a task: its own, or those of all others."""
        if (known := self._tasks.get(task)) is not None:
            return known
        is_own = len(self._tasks) < MAX_TASKS and self._is_registered(task)
        return self._tasks.setdefault(task if is_own else OTHER, TaskCounts())


def _note_times(counts: TaskCounts, event: JobEvent, started: float, finished: float) -> None:
    """Count how long a job that ended has run, and waited where that is known."""
    counts.ran.observe(max(0.0, finished - started))
    since = event.due_at
    if since is None and not event.retries:
        since = event.queued_at
    if since is not None:
        counts.waited.observe(max(0.0, started - since))
