"""Counts what jobs did, by task and by ten seconds; pure."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from service.results.model import State
from service.signals import JobEvent

STEP: Final = 10  # seconds in one bucket
SPAN: Final = 3600  # seconds that are shown

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


def bucket_of(time: float) -> int:
    """The bucket that a moment belongs to."""
    return int(time // STEP)


def count(events: Iterable[JobEvent]) -> Counter[tuple[int, str]]:
    """How much to add to which field of which bucket for these events."""
    counts: dict[tuple[int, str, str], int] = {}
    run_times: dict[tuple[int, str], list[float]] = {}
    for event in events:
        if (kind := _KINDS.get(event.state)) is None:
            continue
        bucket, task = bucket_of(event.at), event.task
        counts[bucket, kind, task] = counts.get((bucket, kind, task), 0) + 1
        if (ran_for := event.ran_for) is not None:
            run_times.setdefault((bucket, task), []).append(ran_for)
    totals = Counter({(b, f"{kind}{_SEPARATOR}{task}"): n for (b, kind, task), n in counts.items()})
    for (bucket, task), times in run_times.items():
        totals[bucket, f"ms{_SEPARATOR}{task}"] = round(sum(times) * 1000)
        for number, jobs in Counter(map(_class_of, times)).items():
            totals[bucket, f"t{number}{_SEPARATOR}{task}"] = jobs
    return totals


@dataclass(slots=True)
class TaskStats:
    """What jobs of one task, or of all, did within some time."""

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


def read_counts(stored: Mapping[bytes, bytes]) -> dict[str, int]:
    """The counts of a stored bucket. Fields that are not whole numbers are left out."""
    counts: dict[str, int] = {}
    for name, amount in stored.items():
        with suppress(ValueError):  # UnicodeDecodeError is one
            if abs(many := int(amount)) <= _MOST:
                counts[name.decode()] = many
    return counts


def by_task(buckets: Iterable[Mapping[str, int]]) -> dict[str, TaskStats]:
    """The buckets' sum for each task."""
    found: dict[str, TaskStats] = {}
    for bucket in buckets:
        for name, amount in bucket.items():
            kind, _, task = name.partition(_SEPARATOR)
            found.setdefault(task, TaskStats()).add(kind, amount)
    return found


def overall(*buckets: Mapping[str, int]) -> TaskStats:
    """The buckets' sum over all tasks."""
    total = TaskStats()
    for bucket in buckets:
        for name, amount in bucket.items():
            total.add(name.partition(_SEPARATOR)[0], amount)
    return total


def _class_of(seconds: float) -> int:
    return max(0, round(_CLASSES_PER_DECADE * math.log10(max(seconds, _SHORTEST) / _SHORTEST)))
