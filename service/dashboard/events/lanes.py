"""Lays out what ran within the last minute, by worker or by task: lanes of bars; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
from typing import Final, Literal, TypeAlias, get_args

from service.results.model import State
from service.signals import JobEvent, WorkerStatus

SHOWN: Final = 60.0  # seconds
MOST_LANES: Final = 50
MOST_BARS: Final = 200  # in all lanes
_LEAST_BARS: Final = 4  # in a lane, however many lanes there are
_MOST_OF_LANE: Final = 40
_ROWS: Final = 6  # of a lane: bars beside each other in time are below each other
_LEAST: Final = 0.8  # seconds that a bar is wide at least, or nobody could point at it
_LOOKED_AT: Final = 4  # times as many jobs as there is room for: not all fit into the rows
_RUNS: Final = float("inf")  # the end of a job that has none yet
_RUNNING: Final = frozenset({State.STARTED.value, State.PROGRESS.value})
_GONE_AFTER: Final = 5.0  # seconds without a report; workers report at least every other one


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
class Bar:
    """A job in a lane; `until` is None while it runs. Times are seconds since 1970."""

    job: JobEvent
    since: float
    until: float | None
    row: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A worker or a task, what of its jobs there is room for, and how many others there are."""

    name: str
    is_alive: bool
    running: int
    bars: tuple[Bar, ...]
    others: int

    @property
    def rows(self) -> int:
        """How many rows its bars take."""
        return 1 + max((bar.row for bar in self.bars), default=0)


Grouping: TypeAlias = Literal["worker", "task"]
GROUPINGS: Final = get_args(Grouping)

_Timed: TypeAlias = tuple[float, float, str, JobEvent]  # until when, since when, id, job


def lanes_of(
    jobs: Iterable[JobEvent], workers: Sequence[Worker], now: float, by: Grouping = "worker"
) -> tuple[tuple[Lane, ...], int]:
    """The lanes by the names of workers, or of tasks, and how many have none.

    Where there are too many, those that run something have one before others. An idle worker has a
    lane, an idle task has none.
    """
    known = {worker.name: worker for worker in workers}
    of_workers, lane_of = by == "worker", attrgetter(by)
    found: dict[str, list[_Timed]] = {
        worker.name: [] for worker in workers if of_workers and worker.is_alive
    }
    for job in jobs:
        if not job.worker or job.started_at is None:
            continue
        until = job.finished_at or job.at
        if job.state in _RUNNING:
            worker = known.get(job.worker)
            until = _RUNS if worker is None or worker.is_alive else now - worker.age
        if until > now - SHOWN:
            found.setdefault(lane_of(job), []).append((until, job.started_at, job.id, job))
    running = {name: sum(each[0] == _RUNS for each in timed) for name, timed in found.items()}
    chosen = sorted(found, key=lambda name: (not running[name], not found[name], name))[:MOST_LANES]
    room = min(_MOST_OF_LANE, max(_LEAST_BARS, MOST_BARS // max(1, len(chosen))))
    lanes = []
    for name in sorted(chosen):
        bars = _arranged(found[name], room)
        worker = known.get(name) if of_workers else None
        is_alive = worker is None or worker.is_alive
        lanes.append(Lane(name, is_alive, running[name], bars, len(found[name]) - len(bars)))
    return tuple(lanes), len(found) - len(chosen)


def _arranged(timed: list[_Timed], room: int) -> tuple[Bar, ...]:
    """Those that run, then the newest others, each in the first row in which it covers no other."""
    rows: list[list[tuple[float, float]]] = [[] for _ in range(_ROWS)]
    bars: list[Bar] = []
    for until, since, _, job in nlargest(_LOOKED_AT * room, timed):
        if len(bars) == room:
            break
        end = max(until, since + _LEAST)
        for number, row in enumerate(rows):
            if all(end <= other or since >= other_end for other, other_end in row):
                row.append((since, end))
                bars.append(Bar(job, since, None if until == _RUNS else until, number))
                break
    return tuple(sorted(bars, key=lambda bar: (bar.since, bar.job.id)))
