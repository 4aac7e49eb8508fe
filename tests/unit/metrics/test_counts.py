"""What is counted of jobs, under which labels."""

import os
import threading
from typing import Any

from service.metrics.children import ChildPipe
from service.metrics.counts import ENDS, JOB_SECONDS, MAX_TASKS, OTHER, Counts
from service.signals import JobEvent
from tests.support.wait import wait_until

AT = 1_700_000_000.0


def event(state: str, task: str = "mail", **fields: Any) -> JobEvent:
    return JobEvent("an-id", state, task, AT, **fields)


def test_each_change_is_counted_once() -> None:
    """A start is none: most jobs never send it."""
    counts = Counts(lambda _: True)
    for state in ("QUEUED", "QUEUED", "STARTED", "RETRY", *ENDS, "SUCCESS"):
        counts.record(event(state))
    found = counts.tasks()["mail"]
    assert (found.enqueued, found.retried) == (2, 1)
    assert found.ended == {"SUCCESS": 2, "FAILURE": 1, "REVOKED": 1}


def test_times_are_of_attempts_that_ran() -> None:
    """Waiting begins when a job is due; of a retry without a countdown it isn't known when."""
    counts = Counts(lambda _: True)
    times: dict[str, Any] = {"queued_at": AT, "started_at": AT + 2.0, "finished_at": AT + 2.2}
    counts.record(event("SUCCESS", **times))
    counts.record(event("FAILURE", retries=1, **times))
    counts.record(event("SUCCESS", retries=2, due_at=AT + 1.96, **times))
    counts.record(event("REVOKED", queued_at=AT, finished_at=AT + 9.0))
    found = counts.tasks()["mail"]
    assert sum(found.waited.numbers) == 2
    assert found.waited.numbers[JOB_SECONDS.index(2.5)] == 1
    assert found.waited.numbers[JOB_SECONDS.index(0.05)] == 1
    assert found.ran.numbers[JOB_SECONDS.index(0.25)] == 3


def test_tasks_that_are_not_registered_share_a_label() -> None:
    """Or whoever sends messages could fill Prometheus with names."""
    counts = Counts(lambda name: name == "mail")
    for number in range(1000):
        counts.record(event("QUEUED", f"forged-{number}"))
    counts.record(event("QUEUED"))
    assert {name: of.enqueued for name, of in counts.tasks().items()} == {OTHER: 1000, "mail": 1}


def test_labels_are_bounded_however_many_tasks_are_registered() -> None:
    """So a scrape's work is, too."""
    counts = Counts(lambda _: True)
    counts.add_tasks(f"task-{number}" for number in range(MAX_TASKS * 2))
    counts.record(event("QUEUED", "late"))
    assert len(counts.tasks()) <= MAX_TASKS + 1
    assert counts.tasks()[OTHER].enqueued == 1


def test_threads_lose_no_count() -> None:
    """Jobs end in many."""
    counts = Counts(lambda _: True)

    def record() -> None:
        for _ in range(2000):
            counts.record(event("SUCCESS", started_at=AT, finished_at=AT))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.tasks()["mail"].ended["SUCCESS"] == 8000


def test_a_parent_that_is_busy_gets_every_event_in_the_end() -> None:
    """A pipe holds some hundred; the child keeps the rest, and never waits."""
    pipe, counts = ChildPipe(), Counts(lambda _: True)
    for _ in range(3000):
        pipe.send(event("SUCCESS"))
    pipe.send(event("FAILURE", error="E: " + "long " * 2000))
    pipe.listen(counts.record)

    def all_are_counted() -> bool:
        pipe.send(event("QUEUED"))
        return counts.tasks().get("mail", None) is not None and (
            counts.tasks()["mail"].ended == {"SUCCESS": 3000, "FAILURE": 1, "REVOKED": 0}
        )

    wait_until(all_are_counted, timeout=30, description="all events have come")
    os.close(pipe._write)
