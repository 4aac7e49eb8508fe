"""Job events as Redis keeps them, counts of them, and the list of recent jobs."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from service.dashboard.events.queues import Flow
from service.dashboard.events.recent import PAGE, Query, RecentJobs, decode_events, newer
from service.dashboard.events.snapshot import Queue, Snapshot
from service.dashboard.events.stats import Bucket, by_task, count, read_bucket, together, total
from service.signals import JobEvent


def event(job_id: str, state: str = "SUCCESS", **values: Any) -> JobEvent:
    return JobEvent(**{"id": job_id, "state": state, "task": "a.task", "at": 100.0, **values})


def ended(
    job_id: str,
    state: str = "SUCCESS",
    *,
    task: str = "a.task",
    at: float = 100.0,
    started: float | None = None,
) -> JobEvent:
    return JobEvent(job_id, state, task, at, "w", 97.0, started, at)


def stored(totals: Counter[tuple[int, str]], bucket: int) -> Bucket:
    """What is read of a bucket that these counts were added to."""
    of = {
        field.encode(): str(many).encode() for (at, field), many in totals.items() if at == bucket
    }
    return read_bucket(of)


def test_events_survive_redis() -> None:
    """Those that another version wrote are passed over; what lacks at the end is not known."""
    events = [event("1", "QUEUED", queued_at=100.0), ended("1", started=98.0)]
    stored = b'["1","SUCCESS","a.task",100.0,"w",97.0,98.0,100.0,0,null,"","",null,[],null]'
    assert msgspec.json.encode(events[1]) == stored
    assert decode_events(msgspec.json.encode(events)) == events
    assert decode_events(b'[["1","QUEUED","a.task",100.0,null,100.0]]') == events[:1]
    assert decode_events(b'[["1"]]') == []
    assert decode_events(b"nonsense") == []


def test_a_job_that_has_ended_stays_ended() -> None:
    """Events of different processes come in any order."""
    queued = event("1", "QUEUED", at=3, queued_at=1)
    started, done = event("1", "STARTED", at=1), event("1", "SUCCESS", at=2)
    for first, second in ((queued, done), (done, queued)):
        found = newer(first, second)
        assert (found.state, found.queued_at) == ("SUCCESS", 1)
    assert newer(started, queued).state == "STARTED"
    assert newer(event("1", "RETRY", at=1), event("1", "STARTED", at=2)).state == "STARTED"


def test_counts_are_by_task_and_time() -> None:
    """Run times are kept as classes, so that quantiles cost little."""
    events = [ended(str(n), at=105.0, started=105 - n / 100) for n in range(101)]
    events += [ended("x", "FAILURE", task="b.task"), ended("y", "REVOKED", task="b.task", at=111.0)]
    events += [event("z", "STARTED"), event("q", "QUEUED")]
    totals = count(events)
    buckets = [stored(totals, bucket) for bucket in (10, 11)]
    tasks = by_task(together(buckets))
    assert (tasks["a.task"].ok, tasks["a.task"].queued) == (101, 1)
    assert (tasks["b.task"].failed, tasks["b.task"].revoked) == (1, 1)
    assert tasks["a.task"].mean == pytest.approx(0.5)
    assert tasks["a.task"].quantile(0.5) == pytest.approx(0.5, rel=0.27)
    assert tasks["a.task"].quantile(0.95) == pytest.approx(0.95, rel=0.27)
    assert tasks["b.task"].quantile(0.5) is None
    assert (total(buckets[0]).finished, total(buckets[1]).finished) == (102, 1)
    assert total(read_bucket({b"t\x1fnonsense": b"1", b"new\x1ftask": b"2"})).finished == 0


def filled() -> RecentJobs:
    jobs = RecentJobs(1000)
    for number in range(200):
        state = "FAILURE" if number % 3 else "SUCCESS"
        task = f"t.{number % 5}"
        jobs.add([event(f"id-{number:03}", state, task=task, queued_at=float(number))])
    return jobs


def test_the_list_is_filtered_and_searched() -> None:
    """Each word has to be somewhere in the task, the worker or the id."""
    jobs = filled()
    jobs.add([event("of-a-worker", "PROGRESS", worker="Celery@Host")])
    assert jobs.find(Query(state="SUCCESS")).found == 67
    assert jobs.find(Query(search="T.3")).found == 40
    assert jobs.find(Query(search="t.3 id-00")).found == 2
    assert jobs.find(Query(search="host a.task")).found == 1
    assert jobs.find(Query(state="STARTED")).found == 1
    assert jobs.find(Query(search="nothing")).found == 0
    jobs.add([event("tagged", "QUEUED", tags=("Import", "ada")), event("tagged", at=101.0)])
    assert [job.tags for job in jobs.find(Query(tag="Import")).jobs] == [("Import", "ada")]
    assert jobs.find(Query(search="import")).found == 1
    assert jobs.find(Query(tag="import")).found == 0


def test_the_list_is_sorted_and_paged() -> None:
    """A page that is not there is the last one; what lacks a value comes last either way."""
    jobs = filled()
    page = jobs.find(Query(page=99))
    assert (page.number, page.pages, len(page.jobs)) == (4, 4, 200 - 3 * PAGE)
    assert [job.id for job in jobs.find(Query()).jobs[:2]] == ["id-199", "id-198"]
    assert [job.id for job in jobs.find(Query(sort="id", descending=False)).jobs[:2]] == [
        "id-000",
        "id-001",
    ]
    jobs.add(
        [event("slow", started_at=1.0, finished_at=9.0), event("fast", started_at=1, finished_at=2)]
    )
    assert [job.id for job in jobs.find(Query(sort="run")).jobs[:2]] == ["slow", "fast"]
    assert [job.id for job in jobs.find(Query(sort="run", descending=False)).jobs[:2]] == [
        "fast",
        "slow",
    ]


def test_the_list_forgets_what_began_first() -> None:
    """Not what was heard of last."""
    jobs = RecentJobs(3)
    jobs.add(event(f"id-{n}", queued_at=float(n)) for n in (5, 1, 4, 2, 3))
    assert sorted(job.id for job in jobs.find(Query()).jobs) == ["id-3", "id-4", "id-5"]


def test_a_quantile_is_not_shown_below_a_mean_that_it_may_as_well_be() -> None:
    """Quantiles are known to within a quarter: 4.2 s on average, 95 % within 4.0 s, is nonsense."""
    alike = count([ended(str(n), started=95.8) for n in range(20)])
    long_tail = count(
        [ended(str(n), started=99.99) for n in range(99)] + [ended("x", started=40.0)]
    )
    shown = []
    for totals in (alike, long_tail):
        stats = by_task(stored(totals, 10))
        ((_, task),) = Snapshot(tasks=stats).slowest_tasks
        shown.append((task.mean, task.high))
    assert shown[0] == (4.2, 4.2)
    mean, high = shown[1]
    assert mean is not None
    assert high is not None
    assert (high < 0.02, mean > 0.5) == (True, True)


def test_what_waits_is_the_sum_of_what_is_known() -> None:
    """A broker that is no Redis may not tell it."""
    known, unknown = Queue("a", 2, 0, 0, 0), Queue("b", None, None, 0, 0)
    assert Snapshot(queues=(known, unknown, known)).waiting == 4
    assert Snapshot(queues=(unknown,)).waiting is None
    assert Snapshot().waiting == 0


def test_a_queue_says_how_fast_it_empties() -> None:
    """What came is what went, and what waits in addition; without an end it says so."""
    jobs, flow = RecentJobs(1000), Flow()
    jobs.add(event(str(n), queue="celery", finished_at=90.0 + n / 10) for n in range(100))
    out = jobs.rates_out(100.0, 10.0)["celery"]
    assert out == pytest.approx(9.9)
    assert flow.rate_in("celery", 90.0, 100, out) == out
    rate_in = flow.rate_in("celery", 100.0, 50, out)
    assert rate_in == pytest.approx(4.9)
    queue = Queue("celery", 50, 0, 0, 0, rate_in=rate_in, rate_out=out)
    assert queue.empty_in == pytest.approx(10.0)
    assert Queue("celery", 50, 0, 0, 0, rate_in=1.0, rate_out=1.0).empty_in is None
    assert flow.rate_in("celery", 1000.0, 50, 0.0) == 0.0
    assert RecentJobs(2).rates_out(1.0, 10.0) == {}
