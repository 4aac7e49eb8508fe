"""A job as people read it, in each of its states."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.results.model import JobError, Progress, Result, State
from service.web.jobs.views import JobView

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("state", "known", "labels"),
    [
        (State.QUEUED, {}, ["Queued", "Waiting for a worker"]),
        (State.STARTED, {"started_at": after(1)}, ["Queued", "Started", "Running"]),
        (
            State.PROGRESS,
            {"started_at": after(1), "progress": Progress(1, 4, "a quarter")},
            ["Queued", "Started", "a quarter"],
        ),
        (
            State.RETRY,
            {"started_at": after(1)},
            ["Queued", "Started", "Waiting to be tried again"],
        ),
        (
            State.SUCCESS,
            {"started_at": after(1), "finished_at": after(3)},
            ["Queued", "Started", "Finished"],
        ),
        (State.REVOKED, {"finished_at": after(3)}, ["Queued", "Cancelled"]),
        (
            State.REVOKED,
            {"started_at": after(1), "finished_at": after(3)},
            ["Queued", "Started", "Cancelled"],
        ),
        (State.QUEUED, {"due_at": after(60)}, ["Queued", "Scheduled for"]),
        (
            State.RETRY,
            {"started_at": after(1), "due_at": after(60)},
            ["Queued", "Started", "To be tried again"],
        ),
        (
            State.STARTED,
            {"started_at": after(90), "attempt": 3},
            ["Queued", "Started, attempt 3", "Running"],
        ),
    ],
)
def test_the_timeline(state: State, known: dict[str, Any], labels: list[str]) -> None:
    """What came, and what is to come next."""
    job = JobView(Result(id="one", state=state, queued_at=NOON, **known))
    assert [step.label for step in job.steps] == labels
    runs = state in {State.STARTED, State.PROGRESS}
    assert job.steps[-1].since == (known["started_at"] if runs else None)


def test_the_times_between_are_shown() -> None:
    """How long it waited, and how long it ran."""
    job = JobView(
        Result(
            id="one",
            state=State.FAILURE,
            task="a.task",
            error=JobError("ValueError", "no"),
            queued_at=NOON,
            started_at=after(0.25),
            finished_at=after(2.25),
        )
    )
    assert [step.after for step in job.steps] == ["", "waited 250 ms", "ran 2.0 s"]
    assert (job.took, job.summary) == ("2.0 s", "a.task failed: no")


@pytest.mark.parametrize(
    ("known", "waited"),
    [
        ({}, "waited 90.0 s"),
        ({"due_at": after(89.5)}, "waited 500 ms"),  # a scheduled one
        ({"due_at": after(89.5), "attempt": 2}, "waited 500 ms"),
        ({"attempt": 2}, ""),  # since when is not in the record
    ],
)
def test_the_waiting_is_that_of_the_attempt(known: dict[str, Any], waited: str) -> None:
    """Not of the attempts before, nor of the time until it was due."""
    started = Result(id="one", state=State.STARTED, queued_at=NOON, started_at=after(90), **known)
    assert JobView(started).steps[1].after == waited.replace("90.0 s", "1 min 30 s")


def test_a_cancelled_job_is_no_failure() -> None:
    """It says in words when it was cancelled, and after how long."""
    error = JobError("TaskRevokedError", "terminated")
    job = JobView(
        Result(
            id="one",
            state=State.REVOKED,
            error=error,
            queued_at=NOON,
            started_at=after(1),
            finished_at=after(3),
        )
    )
    assert (job.error_type, job.error) == ("", "It was cancelled while it ran.")
    assert [(step.tone, step.after) for step in job.steps[1:]] == [
        ("", "waited 1.0 s"),
        ("neutral", "ran 2.0 s"),
    ]


@pytest.mark.parametrize(
    ("progress", "percent"),
    [(Progress(1, 4), 25), (Progress(9, 4), 100), (Progress(-1, 4), 0), (Progress(3), None)],
)
def test_how_far_it_is(progress: Progress, percent: int | None) -> None:
    """Within the bar, whatever the task says."""
    found = JobView(Result(id="one", state=State.PROGRESS, progress=progress)).progress
    assert found is not None
    assert found.percent == percent


def test_a_long_result_is_clipped() -> None:
    """More for a card than for its page."""
    result = Result(id="one", state=State.SUCCESS, result="x" * 300_000)
    assert (len(JobView(result).value), JobView(result).clipped) == (400, True)
    assert len(JobView(result, in_full=True).value) == 200_000
    assert not JobView(Result(id="one", state=State.SUCCESS, result=None)).clipped
