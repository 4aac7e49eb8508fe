"""What charts show: of five minutes, an hour and a day, and of one task and queue."""

from typing import Any, Final

from service.dashboard.events.history import History
from service.dashboard.events.stats import LONG_STEP, STEP, bucket_of

NOW: Final = 1_800_000_000.0
OF: Final = b"\x1fmail.send\x1fcelery"


def history(*times: float, now: float = NOW) -> History:
    """What is read at `now` if a job of mail.send ended at each of these times, after a second."""
    found = History()
    for buckets, numbers in found.to_read(now):
        counted: dict[int, Any] = {number: {} for number in numbers}
        for at in times:
            fields = counted.get(bucket_of(at, buckets.step))
            if fields is not None:
                fields[b"ok" + OF] = str(int(fields.get(b"ok" + OF, 0)) + 1).encode()
                fields[b"t15" + OF] = fields[b"ok" + OF]
        buckets.take(now, counted.items())
    return found


def test_a_span_is_so_long_and_has_its_sums() -> None:
    """The bucket that is not over is in the sums alone."""
    read = history(NOW, NOW - 100, NOW - 1000, NOW - 40_000)
    found = {span: read.chart(span) for span in ("minutes", "hour", "day")}
    assert {span: len(chart.rows) for span, chart in found.items()} == {
        "minutes": 30,
        "hour": 360,
        "day": 288,
    }
    assert [chart.total.ok for chart in found.values()] == [2, 3, 4]
    assert found["day"].step == LONG_STEP
    rows = {row[0]: row for row in found["hour"].rows}
    ended = bucket_of(NOW - 100) * STEP
    assert rows[ended] == [ended, 0.0, 0.1, 0.0, 1.0, 1.0]
    assert bucket_of(NOW) * STEP not in rows
    assert read.per_second == 0.0


def test_a_day_that_began_within_the_hour_is_told_as_the_hour() -> None:
    """A new service would be one spike at the edge of its day."""
    assert history(NOW - 100, NOW - 1000).chart("day").step == STEP
    assert history().chart("day").step == STEP


def test_a_chart_is_of_a_task_and_a_queue() -> None:
    """Either, both or all; what has passed is counted once, and kept."""
    read = history(NOW - 100, NOW - 1000)
    chosen: tuple[tuple[dict[str, str], int], ...] = (
        ({}, 2),
        ({"task": "mail.send"}, 2),
        ({"task": "mail.send", "queue": "celery"}, 2),
        ({"task": "mail.sort"}, 0),
        ({"queue": "slow"}, 0),
    )
    for _ in range(2):
        for of, ended in chosen:
            assert read.chart("hour", **of).total.ok == ended


def test_only_what_is_new_is_told() -> None:
    """Rows that changed, or all where the buckets have another length."""
    old, new = (history(*times).chart("hour") for times in ((), (NOW - 100,)))
    assert [row[0] for row in new.since(old)["rows"]] == [bucket_of(NOW - 100) * STEP]
    assert (len(new.since(None)["rows"]), new.since(None)["whole"]) == (360, True)
    assert new.since(history(NOW, NOW - 40_000).chart("day"))["whole"]


def test_the_buckets_of_a_day_are_read_seldom() -> None:
    """They are many, and change little."""
    read = history()
    assert len(read.to_read(NOW + 1)) == 1
    assert [len(numbers) for _, numbers in read.to_read(NOW + 31)] == [3 + 3, 3]
