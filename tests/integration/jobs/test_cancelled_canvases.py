"""What waits for a cancelled job ends with it, and nothing of a canvas runs that was cancelled."""

from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord
from redis import Redis

from service import enqueue, get_celery
from service.broker.pauses import Kind, pause
from service.parts import parts_of
from service.results.model import Result
from service.testing import JobRunner
from tests.support.sample_tasks import add, leave_note, total


async def cancel(jobs: JobRunner, job_id: str) -> tuple[int, str]:
    """The status of a DELETE, and the state that it tells."""
    response = await jobs.app.test_client().delete(f"/result/{job_id}")
    return response.status_code, (await response.get_json())["state"]


async def result_of(jobs: JobRunner, job_id: str) -> Result:
    return await parts_of(jobs.app).store.get(job_id)


@pytest.mark.parametrize("is_known", [False, True])
async def test_nobody_waits_until_a_cancelled_job_would_have_been_due(
    jobs: JobRunner, jobs_redis_url: str, *, is_known: bool
) -> None:
    """Whether a worker has found yet that it is scheduled, or not, for as long as none comes."""
    day, mark = 86_400, "unacked_cancelled:member"  # the day is SERVICE_RESULT_EXPIRES, by default
    member = add.s(1, 1).set(countdown=3600, task_id="member")
    async with jobs.app.app_context():
        body: Any = await enqueue(chord([add.s(2, 2), member], total.s()))
    with Redis.from_url(jobs_redis_url) as redis:
        if is_known:
            await jobs.drain()
            assert redis.zcard("celery.scheduled") == 1
        assert await cancel(jobs, "member") == (200, "REVOKED")
        assert redis.ttl(mark) > day
        await jobs.drain()
        assert 0 < redis.ttl(mark) <= day
        result = await result_of(jobs, body.id)
        assert (result.state, result.error and result.error.type) == ("REVOKED", "TaskRevokedError")
        assert redis.zcard("celery.scheduled") == 0


@pytest.mark.parametrize("is_found", [False, True], ids=["in its queue", "found before"])
@pytest.mark.parametrize("options", [{}, {"countdown": 3600}], ids=["now", "scheduled"])
@pytest.mark.parametrize("kind", Kind)
async def test_nobody_waits_for_the_resume_of_what_was_cancelled(
    jobs: JobRunner, *, kind: Kind, options: dict[str, int], is_found: bool
) -> None:
    """Its worker ends what waits for it, wherever its message lies; others stay paused."""
    parts, conf = parts_of(jobs.app), get_celery(jobs.app).conf
    name = leave_note.name if kind is Kind.TASK else "slow"
    await pause(parts.broker_redis, conf, kind, name, by="ada")
    queue = "slow" if kind is Kind.QUEUE else "celery"
    member = leave_note.si("never").set(task_id="member", queue=queue, **options)
    async with jobs.app.app_context():
        body: Any = await enqueue(chord([add.s(2, 2), member], total.s()))
        other = await leave_note.options(queue=queue).enqueue("never")
    if is_found:
        await jobs.drain()
    assert await cancel(jobs, "member") == (200, "REVOKED")
    await jobs.drain()
    result = await result_of(jobs, body.id)
    assert (result.state, result.error and result.error.type) == ("REVOKED", "TaskRevokedError")
    assert (await result_of(jobs, other.id)).state == "QUEUED"


async def test_the_rest_of_a_canvas_is_cancelled_by_its_own_ids(
    jobs: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later step that was cancelled is not run when its turn comes; nor is a chord's body."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("SAMPLE_NOTES", str(notes))
    async with jobs.app.app_context():
        last: Any = await enqueue(chain(add.s(1, 2), leave_note.si("cancelled")))
        body: Any = await enqueue(chord([add.s(1, 1), add.s(2, 2)], total.s()))
        assert await cancel(jobs, last.id) == (200, "REVOKED")
        assert await cancel(jobs, body.id) == (200, "REVOKED")
        await jobs.drain()
        await jobs.run(leave_note, "end")
    assert notes.read_text() == "end\n"
    for job in (last, body):
        assert (await result_of(jobs, job.id)).state == "REVOKED"
