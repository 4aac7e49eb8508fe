"""A cancelled job is not started, not even by a worker that was away; a running one is stopped."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from redis import Redis

from service import create_app, get_celery
from service.broker.pauses import Kind, pause, resume
from service.parts import parts_of
from service.redis.keys import RECORD, broker_keys
from service.tasks.demo import count_slowly
from tests.support.sample_tasks import add, hooked, leave_note
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker, worker_process

POOLS = ["asyncio", "prefork", "threads"]


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
        }
    )
    async with app.test_app(), app.app_context():
        yield app


async def cancel(app: Quart, job_id: str) -> tuple[int, str]:
    """The status of a DELETE, and the state that it tells."""
    response = await app.test_client().delete(f"/result/{job_id}")
    return response.status_code, (await response.get_json())["state"]


def noted(worker: Worker) -> list[str]:
    """What jobs noted, and not the app itself."""
    return [line for line in worker.notes if not line.startswith(("before_", "after_", "process_"))]


def say_started(redis_url: str, job_id: str) -> None:
    """Have a record say what it does where a worker was killed, and the message is back."""
    key = RECORD + job_id
    with Redis.from_url(redis_url) as redis:
        stored = redis.get(key) or b""
        redis.set(key, stored.replace(b'"QUEUED"', b'"STARTED"', 1), keepttl=True)


async def state(app: Quart, job_id: str) -> str:
    return (await parts_of(app).store.get(job_id)).state.value


@pytest.mark.parametrize("pool", POOLS)
async def test_a_worker_that_was_away_starts_no_cancelled_job(
    app: Quart, redis_url: str, tmp_path: Path, pool: str
) -> None:
    """It never heard Celery's own revoke; it asks the record. Nor does a hook of such a job run."""
    jobs: list[Any] = [await leave_note.enqueue(f"cancelled {n}") for n in range(3)]
    jobs.append(await hooked.enqueue("success"))
    jobs.append(await leave_note.options(countdown=0.5).enqueue("cancelled later"))
    for job in jobs:
        assert await cancel(app, job.id) == (200, "REVOKED")
    begun = [await leave_note.enqueue(f"cancelled while it ran {n}") for n in range(2)]
    for job in begun:
        say_started(redis_url, job.id)
    assert await cancel(app, begun[0].id) == (202, "STARTED")
    await begun[1].cancel()
    jobs += begun
    with worker_process(pool, redis_url, tmp_path) as process:
        worker = Worker(pool, process, redis_url, tmp_path)
        process.wait_for_output(r"ready\.")
        await (await leave_note.options(countdown=0.7).enqueue("last")).result(timeout=45)

        async def all_are_revoked() -> bool:
            return {await state(app, job.id) for job in jobs} == {"REVOKED"}

        # A busy worker may meet the last of them after that.
        await wait_until_async(all_are_revoked, description="all are REVOKED")
        assert noted(worker) == ["last"]


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_a_cancelled_job_of_a_paused_task_is_met_by_a_worker_at_once(
    shared_worker: Worker,
) -> None:
    """Whether its message lay aside by then or not; it is not run then, nor after the resume."""
    day = 86_400  # SERVICE_RESULT_EXPIRES, by default
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        conf, client = get_celery(app).conf, parts_of(app).broker_redis
        with Redis.from_url(shared_worker.redis_url) as redis:
            await pause(client, conf, Kind.TASK, leave_note.name, by="ada")
            jobs = [await leave_note.enqueue("cancelled before it was put aside")]
            await jobs[0].cancel()
            jobs.append(await leave_note.enqueue("cancelled where it lies aside"))
            aside = broker_keys(conf).list_of_paused("celery", leave_note.name)
            await wait_until_async(lambda: redis.llen(aside) > 0, description="one lies aside")
            await jobs[1].cancel()

            def lives() -> list[int]:
                return [redis.ttl(RECORD + job.id) for job in jobs]

            await wait_until_async(lambda: max(lives()) <= day, description="a worker met both")
            await resume(client, conf, Kind.TASK, leave_note.name)
            assert await (await add.enqueue(1, 2)).result(timeout=45) == 3
            assert [await state(app, job.id) for job in jobs] == ["REVOKED"] * 2
            assert not [line for line in shared_worker.notes if "aside" in line]


@pytest.mark.parametrize("shared_worker", ["asyncio", "prefork"], indirect=True)
async def test_a_running_job_is_stopped(shared_worker: Worker) -> None:
    """As its pool can; whoever waits is told."""
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        job = await count_slowly.enqueue(200, 0.1)

        async def runs() -> bool:
            return await state(app, job.id) == "PROGRESS"

        await wait_until_async(runs, description="it runs")
        assert await cancel(app, job.id) == (202, "PROGRESS")
        assert (await parts_of(app).watcher.wait(job.id, 45)).state == "REVOKED"
        response = await app.test_client().delete(f"/result/{job.id}")
        assert response.status_code == 409
        assert await (await add.enqueue(1, 2)).result(timeout=45) == 3
