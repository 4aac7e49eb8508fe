"""The record of a job that has not ended does not expire before the job does."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from quart import Quart
from redis import Redis

from service import enqueue
from service.parts import parts_of
from service.redis.keys import RECORD
from tests.support.records import let_be_due
from tests.support.sample_tasks import (
    add,
    leave_note,
    progress,
    progress_async,
    raise_error,
    retry_once,
)
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

POOLS = ["asyncio", "prefork", "threads", "solo"]
DAY = 86_400  # SERVICE_RESULT_EXPIRES, by default
WAITING = "waiting"  # a queue that no worker takes from

pytestmark = pytest.mark.parametrize("shared_worker", POOLS, indirect=True)


@pytest.fixture
def redis(shared_worker: Worker) -> Iterator[Redis]:
    with Redis.from_url(shared_worker.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def app(shared_worker: Worker) -> AsyncIterator[Quart]:
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        yield app


@pytest.fixture
def life(redis: Redis) -> Callable[[str], int]:
    """Gives for how many more seconds a job's record lives."""
    return lambda job_id: int(redis.ttl(RECORD + job_id))


async def reached(app: Quart, job_id: str, state: str) -> None:
    async def is_there() -> bool:
        return (await parts_of(app).store.get(job_id)).state == state

    await wait_until_async(is_there, description=f"{job_id} is {state}")


@pytest.mark.parametrize("handle", [progress, progress_async])
async def test_a_record_lives_on_while_its_job_runs(
    app: Quart, shared_worker: Worker, life: Callable[[str], int], handle: Any
) -> None:
    """And for SERVICE_RESULT_EXPIRES once it has ended."""
    job = await handle.enqueue(1)
    await reached(app, job.id, "PROGRESS")
    assert life(job.id) > DAY
    shared_worker.open_gate(job.id)
    await job.result(timeout=45)
    assert 0 < life(job.id) <= DAY


async def test_a_record_lives_on_while_its_job_waits(
    app: Quart, redis: Redis, life: Callable[[str], int]
) -> None:
    """For a worker, for its time, for an earlier step, or to be retried."""
    queued = await leave_note.options(queue=WAITING).enqueue("never")
    scheduled = await leave_note.options(queue=WAITING, countdown=7 * DAY).enqueue("never")
    first = leave_note.si("never").set(queue=WAITING)
    last: Any = await enqueue(chain(group([first, first.clone()]), leave_note.si("never")))
    retried = await retry_once.enqueue("waits", 600.0)
    await reached(app, retried.id, "RETRY")
    waiting = [str(job_id)[len(RECORD) :] for job_id in redis.keys(RECORD + "*")]
    waiting = [job_id for job_id in waiting if '"QUEUED"' in str(redis.get(RECORD + job_id))]
    assert {queued.id, scheduled.id, last.id} <= set(waiting)
    assert min(map(life, (*waiting, retried.id))) > 2 * DAY
    redis.delete(WAITING)
    let_be_due(redis)
    await retried.result(timeout=45)
    assert 0 < life(retried.id) <= DAY


async def test_a_cancellation_lives_on_until_a_worker_has_met_it(
    app: Quart, redis: Redis, life: Callable[[str], int], shared_worker: Worker
) -> None:
    """It would run after all, had its record gone."""
    job = await leave_note.options(queue=WAITING).enqueue("cancelled in good time")
    assert (await app.test_client().delete(f"/result/{job.id}")).status_code == 200
    assert life(job.id) > DAY
    redis.lmove(WAITING, "celery")
    await wait_until_async(lambda: life(job.id) <= DAY, description="a worker has met it")
    await reached(app, job.id, "REVOKED")
    assert "cancelled in good time" not in shared_worker.notes


@pytest.mark.slow
async def test_an_idempotency_key_lives_as_long_as_its_job(
    app: Quart, redis: Redis, life: Callable[[str], int]
) -> None:
    """Else the same request would start a second job while the first one runs."""
    redis.delete(*redis.keys("service-once-*"), "none")
    answer = await app.test_client().post(
        "/tasks/demo.count_slowly",
        json={"steps": 20, "pause": 0.1},
        headers={"Idempotency-Key": "k"},
    )
    job_id = (await answer.get_json())["id"]
    (key,) = redis.keys("service-once-*")
    for state in ("PROGRESS", "SUCCESS"):
        await reached(app, job_id, state)
        assert (redis.ttl(key) > DAY) is (state == "PROGRESS")
        assert abs(redis.ttl(key) - life(job_id)) <= 1


@pytest.mark.parametrize("ending", ["well", "badly"])
async def test_what_a_chord_counts_lives_on_until_its_last_part_is_in(
    app: Quart, redis: Redis, ending: str
) -> None:
    """Else the body would wait for ever; of a chord that has ended nothing is kept."""

    def lives() -> list[int]:
        found: Any = redis.keys(f"celery-taskset-meta-{group_id}*")
        return [int(redis.ttl(key)) for key in found]

    ends = add.si(1, 1) if ending == "well" else raise_error.si("ValueError")
    inner = group([add.si(1, 2), add.si(2, 2).set(queue=WAITING)])
    body: Any = await enqueue(chord([ends, inner], leave_note.si("all are in")))
    (message,) = redis.lrange(WAITING, 0, -1)
    group_id = json.loads(message)["headers"]["group"]
    await wait_until_async(lambda: len(lives()) > 2, description="the first part is counted")
    assert min(lives()) > DAY
    redis.lmove(WAITING, "celery")
    await parts_of(app).watcher.wait(body.id, 45)
    await wait_until_async(
        lambda: len(lives()) <= 2 and max(lives(), default=0) <= DAY, description="it is forgotten"
    )
