"""Keeps the counts of the last hour and of the last day, and makes the rows of charts of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from service.dashboard.events.stats import (
    LONG_SPAN,
    LONG_STEP,
    SPAN,
    STEP,
    Bucket,
    TaskStats,
    bucket_of,
    read_bucket,
    together,
    total,
)

# The spans that charts can have, by name: seconds.
SPANS: Final = {"minutes": 300, "hour": SPAN, "day": LONG_SPAN}

_OPEN_BUCKETS: Final = 2  # the newest ones: reports of them may still come
_LONG_EVERY: Final = 30  # seconds between two readings of the day's buckets
_CHARTS: Final = 50  # of which the points of past buckets are remembered
_LAST_MINUTE: Final = 60 // STEP  # buckets
Point = tuple[int, TaskStats]  # when a bucket begins, and what jobs did in it
Row = list[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """What the charts of one span show, of all jobs or of those of one task and queue.

    A row for each bucket of `step` seconds: when it begins, jobs queued, ended well and badly (jobs
    per second), and within how many seconds half and nearly all of them ran. `total` is of the
    whole span. The bucket that is not over is left out of the rows.
    """

    step: int
    rows: list[Row]
    total: TaskStats

    def since(self, old: "Chart | None") -> dict[str, Any]:
        """What is new to whoever has seen the old one, as the page's script takes it."""
        rows = self.rows
        is_whole = old is None or old.step != self.step
        if old is not None and not is_whole:
            seen = {row[0]: row for row in old.rows}
            rows = [row for row in rows if seen.get(row[0]) != row]
        of = self.total
        sums = [of.queued, of.ok, of.failed + of.revoked, of.quantile(0.5), of.quantile(0.95)]
        return {"step": self.step, "whole": is_whole, "rows": rows, "sums": sums}


class Buckets:
    """The buckets of one length, as far back as they are shown."""

    def __init__(self, step: int, span: int) -> None:
        self.step = step
        self._span = span
        self._buckets: dict[int, Bucket] = {}
        self._past = range(0)  # those that do not change any more
        self._sum_of_past: Bucket = {}
        self._points: dict[tuple[str, str], dict[int, TaskStats]] = {}

    def to_read(self, now: float) -> list[int]:
        """The buckets whose counts are to be read now; those that are too old are forgotten."""
        past = self._past_at(now)
        self._buckets = {n: bucket for n, bucket in self._buckets.items() if n in past}
        shown = range(past.start, bucket_of(now, self.step) + 1)
        return [number for number in shown if number not in self._buckets]

    def take(self, now: float, counts: Iterable[tuple[int, Any]]) -> None:
        """Take in what was read of the buckets."""
        self._buckets.update((number, read_bucket(stored)) for number, stored in counts)
        if (past := self._past_at(now)) != self._past:
            self._past = past
            self._sum_of_past = together(self._buckets.get(number, {}) for number in past)
            for points in self._points.values():
                for number in [each for each in points if each < past.start]:
                    del points[number]

    def _past_at(self, now: float) -> range:
        newest = bucket_of(now, self.step)
        return range(newest - self._span // self.step, newest - _OPEN_BUCKETS)

    @property
    def sum(self) -> Bucket:
        """What jobs did in all of them."""
        return together([self._sum_of_past, *(self._buckets[number] for number in self._open)])

    @property
    def _open(self) -> list[int]:
        return [number for number in sorted(self._buckets) if number >= self._past.stop]

    def points(self, *, task: str = "", queue: str = "") -> list[Point]:
        """What the jobs of a task and a queue did in each bucket, the oldest first."""
        if (task, queue) not in self._points and len(self._points) >= _CHARTS:
            self._points.clear()
        known = self._points.setdefault((task, queue), {})
        for number in self._past:
            if number not in known:
                known[number] = total(self._buckets.get(number, {}), task=task, queue=queue)
        opened = [
            (number, total(self._buckets[number], task=task, queue=queue)) for number in self._open
        ]
        past = [(number, known[number]) for number in self._past]
        return [(number * self.step, stats) for number, stats in (*past, *opened)]


class History:
    """The counts of the last hour, and the coarser ones of the last day."""

    def __init__(self) -> None:
        self.hour = Buckets(STEP, SPAN)
        self._day = Buckets(LONG_STEP, LONG_SPAN)
        self._day_read_at = float("-inf")

    def to_read(self, now: float) -> list[tuple[Buckets, list[int]]]:
        """What is to be read now: the day's buckets seldom, as they change little."""
        found = [(self.hour, self.hour.to_read(now))]
        if now - self._day_read_at >= _LONG_EVERY:
            self._day_read_at = now
            found.append((self._day, self._day.to_read(now)))
        return found

    @property
    def per_second(self) -> float:
        """Jobs that ended in the last minute, by the second."""
        last_minute = self.hour.points()[-1 - _LAST_MINUTE : -1]
        ended = sum(stats.finished for _, stats in last_minute)
        return ended / (STEP * len(last_minute)) if last_minute else 0.0

    def chart(self, span: str, *, task: str = "", queue: str = "") -> Chart:
        """What the charts show of a span.

        Where all that is known of a day happened in its last hour, that of the hour: a new service
        would be one spike at the edge else.
        """
        if span == "day":
            points = self._day.points(task=task, queue=queue)
            known = next((at for at, stats in points if _is_any(stats)), None)
            if known is not None and known + LONG_STEP <= points[-1][0] - SPAN:
                return Chart(LONG_STEP, [*_rows(points, LONG_STEP)], _sum(points))
            span = "hour"
        points = self.hour.points(task=task, queue=queue)[-1 - SPANS[span] // STEP :]
        return Chart(STEP, [*_rows(points, STEP)], _sum(points))


def _is_any(stats: TaskStats) -> bool:
    return bool(stats.queued or stats.finished or stats.retried)


def _sum(points: Iterable[Point]) -> TaskStats:
    found = TaskStats()
    for _, stats in points:
        found.add_all(stats)
    return found


def _rows(points: list[Point], step: int) -> Iterator[Row]:
    for at, stats in points[:-1]:
        yield [
            at,
            stats.queued / step,
            stats.ok / step,
            (stats.failed + stats.revoked) / step,
            stats.quantile(0.5),
            stats.quantile(0.95),
        ]
