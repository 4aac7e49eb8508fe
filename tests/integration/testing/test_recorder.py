"""`service.testing` records what is enqueued where there is no server."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import chain
from quart import Quart

from service import Jobs, TaskBlueprint, current_job, enqueue
from service.errors import InvalidArgumentsError, JobFailedError, JobFinishedError
from service.testing import JobRecorder

tasks = TaskBlueprint("recorded")


@tasks.task(public=True)
async def later(day: datetime) -> datetime:
    return day.replace(year=day.year + 1)


@tasks.task
def which() -> str:
    return current_job.id


@tasks.task
async def fail() -> None:
    raise LookupError("gone")


@tasks.task
async def fan_out() -> None:
    await which.enqueue()


@pytest.fixture
def jobs_app(monkeypatch: pytest.MonkeyPatch) -> Quart:
    monkeypatch.setenv("SERVICE_REDIS_URL", "redis://127.0.0.1:1/0")  # where nothing listens
    app = Quart(__name__)
    Jobs(app, tasks=[tasks])
    return app


async def test_each_way_of_enqueueing_is_recorded(recorded_jobs: JobRecorder) -> None:
    """From Python, over HTTP, in Celery's way; with arguments as they are annotated."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    await later.options(countdown=60, queue="slow").enqueue(day)
    which.delay()
    async with recorded_jobs.app.app_context():
        await enqueue(later.s(day))
    answer = await recorded_jobs.app.test_client().post(
        "/jobs/tasks/recorded.later", json={"day": day.isoformat()}
    )
    assert answer.status_code == 202, await answer.get_data()
    first, second, third = recorded_jobs.enqueued(later)
    assert (first.args, first.queue) == ((day,), "slow")
    assert first.eta is not None
    assert second.args == (day,)
    assert third.kwargs == {"day": day}
    assert len(recorded_jobs.enqueued("recorded.which")) == 1
    with pytest.raises(InvalidArgumentsError):
        await later.enqueue("no day")  # type: ignore[arg-type]  # on purpose


async def test_what_has_not_run_has_no_result(recorded_jobs: JobRecorder) -> None:
    """A test that waits for it is told so, and does not hang."""
    job = await which.enqueue()
    with pytest.raises(AssertionError, match="has not run"):
        await job.result()
    await recorded_jobs.drain()
    assert await job.result() == job.id


async def test_a_job_that_is_cancelled_does_not_run(recorded_jobs: JobRecorder) -> None:
    """And is REVOKED, as with a server."""
    job = await fail.enqueue()
    await job.cancel()
    await recorded_jobs.drain()
    with pytest.raises(JobFailedError, match="REVOKED"):
        await job.result()
    with pytest.raises(JobFinishedError):
        await job.cancel()


async def test_jobs_run_at_once(recorded_jobs: JobRecorder) -> None:
    """What fails then says so where its result is read, as with a worker."""
    recorded_jobs.at_once = True
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert await (await later.enqueue(day)).result() == day.replace(year=2027)
    job = await fail.enqueue()
    with pytest.raises(JobFailedError, match="gone"):
        await job.result()
    assert "raise LookupError" in recorded_jobs.report()
    await fan_out.enqueue()
    (inner,) = recorded_jobs.enqueued(which)
    assert inner.id


async def test_failures_are_raised(recorded_jobs: JobRecorder) -> None:
    """By `run`, and by `drain`."""
    with pytest.raises(LookupError):
        await recorded_jobs.run(fail)
    await asyncio.gather(fail.enqueue(), fail.enqueue())
    with pytest.raises(ExceptionGroup):
        await recorded_jobs.drain()
    assert recorded_jobs.report() == ""


async def test_a_canvas_cannot_run(recorded_jobs: JobRecorder) -> None:
    """Its first job is recorded; the rest needs a server, and the test is told so."""
    async with recorded_jobs.app.app_context():
        await enqueue(chain(which.s(), later.s()))
    assert [job.task for job in recorded_jobs.enqueued()] == ["recorded.which"]
    with pytest.raises(NotImplementedError, match="canvas"):
        await recorded_jobs.drain()


def test_a_test_need_not_be_async(recorded_jobs: JobRecorder) -> None:
    """Celery's own ways are synchronous."""
    result: Any = which.delay()
    assert recorded_jobs.enqueued()[0].id == result.id
