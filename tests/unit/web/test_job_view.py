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
    ],
)
def test_the_timeline(state: State, known: dict[str, Any], labels: list[str]) -> None:
    """What came, and what is to come next."""
    job = JobView(Result(id="one", state=state, queued_at=NOON, **known))
    assert [step.label for step in job.steps] == labels


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
