"""What ran within the last minute, in lanes."""

from typing import Any, Final

from service.dashboard.events.lanes import MOST_BARS, MOST_LANES, Worker, lanes_of
from service.signals import JobEvent, WorkerStatus

NOW: Final = 1_000.0
STATUS: Final = WorkerStatus("asyncio", 4, 0, {}, ["celery"], 0.0)


def job(name: str, worker: str = "w", *, since: float = 990.0, **values: Any) -> JobEvent:
    """A job that runs, or has ended where it says when."""
    ended = values.get("finished_at")
    state = "SUCCESS" if ended else "STARTED"
    known = {"state": state, "task": "a.task", "at": ended or since, **values}
    return JobEvent(id=name, worker=worker, started_at=since, **known)


def worker(name: str = "w", age: float = 0.0) -> Worker:
    return Worker(name, age, STATUS)


def test_a_lane_has_what_runs_and_what_has_just_ended() -> None:
    """Beside each other in time is below each other in rows; what ended before is not shown."""
    jobs = [
        job("runs", since=500.0),
        job("quick", since=960.0, finished_at=960.1),
        job("later", since=970.0, finished_at=980.0),
        job("old", since=900.0, finished_at=930.0),
        job("again", since=950.0, state="RETRY", at=955.0),
        JobEvent("waits", "QUEUED", "a.task", NOW),
    ]
    ((lane,), more) = lanes_of(jobs, [worker(), worker("gone", 60.0)], NOW)
    found = {bar.job.id: (bar.since, bar.until, bar.row) for bar in lane.bars}
    assert found == {
        "runs": (500.0, None, 0),
        "again": (950.0, 955.0, 1),
        "quick": (960.0, 960.1, 1),
        "later": (970.0, 980.0, 1),
    }
    assert (lane.running, lane.others, lane.rows, lane.is_alive, more) == (1, 0, 2, True, 0)


def test_a_worker_that_is_gone_runs_nothing() -> None:
    """Its bars end when it was last seen."""
    ((lane,), _) = lanes_of([job("runs")], [worker(age=7.0)], NOW)
    assert (lane.running, lane.is_alive, lane.bars[0].until) == (0, False, NOW - 7)


def test_lanes_are_of_tasks_too() -> None:
    """Of whatever workers; an idle task has none, and there are as many as of workers."""
    jobs = [
        job("one", "w", task="mail.send"),
        job("two", "gone", task="mail.send"),
        job("three", "w", task="a.task", since=980.0, finished_at=981.0),
    ]
    lanes, more = lanes_of(jobs, [worker(), worker("gone", 7.0)], NOW, "task")
    found = {lane.name: [(bar.job.id, bar.until) for bar in lane.bars] for lane in lanes}
    assert found == {
        "a.task": [("three", 981.0)],
        "mail.send": [("one", None), ("two", NOW - 7)],
    }
    assert ([lane.running for lane in lanes], more) == ([0, 1], 0)
    many = [job(f"{n}", task=f"task{n}") for n in range(MOST_LANES + 3)]
    lanes, more = lanes_of(many, [worker()], NOW, "task")
    assert (len(lanes), more) == (MOST_LANES, 3)


def test_there_are_so_many_lanes_and_bars() -> None:
    """What runs comes first, and the rest is counted."""
    workers = [worker(f"w{n:02}") for n in range(MOST_LANES + 10)]
    busy = [job(f"{name}-{n}", name) for name in ("w55", "w59") for n in range(20)]
    ended = [job(f"e{n}", "w59", since=900 + n / 10, finished_at=995.0) for n in range(90)]
    lanes, more = lanes_of([*busy, *ended], workers, NOW)
    assert ([lane.name for lane in lanes][-2:], len(lanes), more) == (
        ["w55", "w59"],
        MOST_LANES,
        10,
    )
    assert sum(len(lane.bars) for lane in lanes) <= MOST_BARS
    assert all(bar.until is None for bar in lanes[-1].bars)
    assert (lanes[-1].running, lanes[-1].others + len(lanes[-1].bars)) == (20, 110)
    many = [job(f"{n}", since=1000 - n, finished_at=1000.9 - n) for n in range(60)]
    ((lane,), _) = lanes_of(many, [worker()], NOW)
    assert (len(lane.bars), lane.others) == (40, 20)
    assert lane.bars[-1].job.id == "0"
