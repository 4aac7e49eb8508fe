"""Counts what jobs did, by task and queue, in buckets of time; pure."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from service.results.model import State
from service.signals import JobEvent

STEP: Final = 10  # seconds in one bucket of the last hour
SPAN: Final = 3600  # seconds
LONG_STEP: Final = 300  # seconds in one bucket of the last day
LONG_SPAN: Final = 86_400  # seconds

_PRECISION: Final = 1.26  # factor by which a quantile may be wrong
_CLASS: Final = re.compile(r"t([0-9]{1,2})")  # a field's name: of 100 classes
_MOST: Final = 2**53  # that Redis, Lua and JavaScript count alike
_SEPARATOR: Final = "\x1f"
_CLASSES_PER_DECADE: Final = 5  # of run times: each is 1.58 times as long as the one before
_SHORTEST: Final = 0.001  # seconds; whatever is quicker counts as this
_KINDS: Final[dict[str, str]] = {
    State.QUEUED: "queued",
    State.SUCCESS: "ok",
    State.FAILURE: "failed",
    State.RETRY: "retried",
    State.REVOKED: "revoked",
}
_COUNTED: Final = frozenset({*_KINDS.values(), "ms"})


def bucket_of(time: float, step: int = STEP) -> int:
    """The bucket that a moment belongs to."""
    return int(time // step)


def count(events: Iterable[JobEvent]) -> Counter[tuple[int, str]]:
    """How much to add to which field of which bucket for these events.

    A field is named by what it counts, the task and the queue, where that is known.
    """
    counts: dict[tuple[int, str, str, str | None], int] = {}
    run_times: dict[tuple[int, str, str | None], list[float]] = {}
    for event in events:
        if (kind := _KINDS.get(event.state)) is None:
            continue
        bucket, task, queue = bucket_of(event.at), event.task, event.queue
        key = (bucket, kind, task, queue)
        counts[key] = counts.get(key, 0) + 1
        if (ran_for := event.ran_for) is not None:
            run_times.setdefault((bucket, task, queue), []).append(ran_for)
    totals = Counter({(key[0], _name_of(*key[1:])): number for key, number in counts.items()})
    for (bucket, task, queue), times in run_times.items():
        totals[bucket, _name_of("ms", task, queue)] = round(sum(times) * 1000)
        for number, jobs in Counter(map(_class_of, times)).items():
            totals[bucket, _name_of(f"t{number}", task, queue)] = jobs
    return totals


def _name_of(kind: str, task: str, queue: str | None) -> str:
    return _SEPARATOR.join((kind, task, queue) if queue else (kind, task))


@dataclass(slots=True)
class TaskStats:
    """What jobs of one task, or of several, did within some time."""

    queued: int = 0
    ok: int = 0
    failed: int = 0
    retried: int = 0
    revoked: int = 0
    ms: int = 0  # that they ran, all together
    times: Counter[int] = field(default_factory=Counter)  # how many jobs in which class

    @property
    def finished(self) -> int:
        """Jobs that ended."""
        return self.ok + self.failed + self.revoked

    @property
    def mean(self) -> float | None:
        """Seconds that a job ran, on average."""
        timed = self.times.total()
        return self.ms / 1000 / timed if timed else None

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share of the jobs was done, to within a quarter."""
        left = share * self.times.total()
        for number in sorted(self.times):
            left -= self.times[number]
            if left <= 0:
                return float(_SHORTEST * 10 ** (number / _CLASSES_PER_DECADE))
        return None

    @property
    def high(self) -> float | None:
        """Seconds for 95 %. Where it may in truth be the mean, it is: the mean is known exactly."""
        mean, high = self.mean, self.quantile(0.95)
        if mean is not None and high is not None and high < mean < high * _PRECISION:
            return mean
        return high

    def add(self, kind: str, amount: int) -> None:
        """Add what a field of a bucket says; a kind that is not known is passed over."""
        if kind in _COUNTED:
            setattr(self, kind, getattr(self, kind) + amount)
        elif (number := _CLASS.fullmatch(kind)) is not None:
            self.times[int(number[1])] += amount

    def add_all(self, other: "TaskStats") -> None:
        """Add what other jobs did."""
        self.queued += other.queued
        self.ok += other.ok
        self.failed += other.failed
        self.retried += other.retried
        self.revoked += other.revoked
        self.ms += other.ms
        for number, jobs in other.times.items():
            self.times[number] += jobs


# What jobs did in one bucket, or in several: by task, and by queue ("" where it is not known).
Bucket: TypeAlias = dict[tuple[str, str], TaskStats]


def read_bucket(stored: Mapping[bytes, bytes]) -> Bucket:
    """A stored bucket. Fields that do not count anything are left out."""
    found: Bucket = {}
    for name, amount in stored.items():
        with suppress(ValueError):  # UnicodeDecodeError is one
            if abs(many := int(amount)) <= _MOST:
                kind, _, of = name.decode().partition(_SEPARATOR)
                task, _, queue = of.partition(_SEPARATOR)
                found.setdefault((task, queue), TaskStats()).add(kind, many)
    return found


def together(buckets: Iterable[Bucket]) -> Bucket:
    """What jobs did in all of these buckets."""
    found: Bucket = {}
    for bucket in buckets:
        for of, stats in bucket.items():
            found.setdefault(of, TaskStats()).add_all(stats)
    return found


def total(bucket: Bucket, *, task: str = "", queue: str = "") -> TaskStats:
    """The sum over all tasks and queues, or over those of this name."""
    found = TaskStats()
    for (of_task, of_queue), stats in bucket.items():
        if task in ("", of_task) and queue in ("", of_queue):
            found.add_all(stats)
    return found


def by_task(bucket: Bucket) -> dict[str, TaskStats]:
    """The sum over all queues for each task."""
    found: dict[str, TaskStats] = {}
    for (task, _), stats in bucket.items():
        found.setdefault(task, TaskStats()).add_all(stats)
    return found


def _class_of(seconds: float) -> int:
    return max(0, round(_CLASSES_PER_DECADE * math.log10(max(seconds, _SHORTEST) / _SHORTEST)))
