"""A job whose end is stored is acknowledged, and not run again, when its message comes again."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord
from quart import Quart
from redis import Redis

from service import enqueue, get_celery
from service.broker import messages
from service.jobs.job import Job
from service.parts import parts_of
from service.redis.keys import RECORD
from tests.support.broker import MAINLY_ASYNCIO
from tests.support.rabbitmq import needs_rabbitmq, rabbitmq
from tests.support.records import let_be_due
from tests.support.sample_tasks import (
    add,
    end_process_after,
    errback,
    hang_after,
    leave_note,
    raise_error,
    replace,
    retry_and_end,
    retry_once,
    total,
)
from tests.support.serving import serving_app
from tests.support.wait import wait_until
from tests.support.workers import Worker, worker_process

POOLS = ["asyncio", "prefork", "threads", "solo"]
ASIDE = "aside"  # a queue that no worker takes from

every_pool = pytest.mark.parametrize("shared_worker", POOLS, indirect=True)


class Post:
    """Takes messages from the queue aside, and delivers each as often as it is told."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def take(self) -> dict[str, Any]:
        """The message that has waited longest, as if it had been sent to the worker's queue."""
        message: Any = self.redis.rpop(ASIDE)
        payload: dict[str, Any] = json.loads(message.replace(f'"{ASIDE}"', '"celery"'))
        return payload

    def deliver(self, payload: dict[str, Any], *, again: bool = False) -> None:
        """Have the worker take a copy of the message, marked as one that comes `again`."""
        # A worker knows what it has acknowledged by the publisher's tag: to others this is unknown.
        properties = {**payload["properties"], "delivery_tag": str(uuid4())}
        copy = {**payload, "properties": properties}
        self.redis.lpush("celery", messages.redelivered(copy, 1) if again else json.dumps(copy))

    def deliver_again(self, payload: dict[str, Any]) -> None:
        """The same for a message whose job has run, with and without the mark of its worker."""
        self.deliver(payload, again=True)
        self.deliver(payload)
        self.wait_until_acknowledged()

    def store(self, payload: dict[str, Any], state: str, result: Any) -> None:
        """The record of a job whose worker dies right after it was stored."""
        headers = payload["headers"]
        stored = {"status": state, "result": result, "traceback": None, "retries": 0}
        stored |= {"queued_at": headers["queued_at"], "date_done": headers["queued_at"]}
        self.redis.set(RECORD + headers["id"], json.dumps(stored), ex=60)

    def wait_until_acknowledged(self) -> None:
        """Wait until nothing is queued or held."""
        wait_until(
            lambda: not self.redis.exists("celery", "unacked"), description="all is acknowledged"
        )


@pytest.fixture
def post(shared_worker: Worker) -> Iterator[Post]:
    with Redis.from_url(shared_worker.redis_url, decode_responses=True) as redis:
        yield Post(redis)


@pytest.fixture
async def app(shared_worker: Worker) -> AsyncIterator[Quart]:
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        yield app


def noted(worker: Worker, line: str) -> list[str]:
    """What was noted that begins with the line, in order."""
    return [note for note in worker.notes if note.startswith(line)]


async def end_of(app: Quart, job: Job[Any]) -> str:
    return (await parts_of(app).watcher.wait(job.id, 45)).state.value


@every_pool
async def test_a_job_that_has_ended_does_not_run_again(
    app: Quart, shared_worker: Worker, post: Post
) -> None:
    """Its worker may have died before the ack, or its publisher may have sent it twice."""
    line = f"ended {uuid4()}"
    job = await leave_note.options(queue=ASIDE).enqueue(line)
    message = post.take()
    post.deliver(message)
    assert await end_of(app, job) == "SUCCESS"
    post.deliver_again(message)
    assert noted(shared_worker, line) == [line]


@pytest.mark.slow
@every_pool
@pytest.mark.parametrize("waits", [False, True], ids=["ended", "waiting"])
async def test_an_attempt_that_was_retried_does_not_run_again(
    app: Quart, shared_worker: Worker, post: Post, *, waits: bool
) -> None:
    """Whether its job has ended meanwhile, or waits to be retried."""
    line = f"retried {uuid4()}"
    job = await retry_once.options(queue=ASIDE).enqueue(line, 600.0 if waits else 0)
    message = post.take()
    post.deliver(message)
    if waits:
        wait_until(
            lambda: '"RETRY"' in str(post.redis.get(RECORD + job.id)), description="it is retried"
        )
        post.deliver_again(message)
        let_be_due(post.redis)
    assert await end_of(app, job) == "SUCCESS"
    post.deliver_again(message)
    assert noted(shared_worker, line) == [f"{line} 0", f"{line} 1"]


@every_pool
async def test_a_job_that_was_replaced_does_not_run_again(
    app: Quart, shared_worker: Worker, post: Post
) -> None:
    """Its id is that of the job in its place, which has ended."""
    line = f"replaced {uuid4()}"
    job = await replace.options(queue=ASIDE).enqueue(line)
    message = post.take()
    post.deliver(message)
    assert await end_of(app, job) == "SUCCESS"
    post.deliver(message, again=True)
    post.wait_until_acknowledged()
    assert noted(shared_worker, line) == [f"{line} before", f"{line} after"]


@every_pool
async def test_a_part_that_has_ended_still_counts_for_its_chord(app: Quart, post: Post) -> None:
    """Its worker may have died between the two; the chord counts it once, and ends once."""
    aside = [add.s(1, 1).set(queue=ASIDE), add.s(2, 2).set(queue=ASIDE)]
    body: Any = await enqueue(chord(aside, total.s()))
    first, second = post.take(), post.take()
    post.store(first, "SUCCESS", 40)
    post.deliver(first, again=True)
    post.wait_until_acknowledged()
    post.deliver(second)
    assert await body.result(timeout=45) == 44  # 2 + 4, had the first part run again
    for part in (first, second):
        post.deliver_again(part)


@pytest.mark.parametrize("shared_worker", MAINLY_ASYNCIO, indirect=True)
@pytest.mark.parametrize(
    ("state", "result"),
    [
        ("SUCCESS", 4),
        ("FAILURE", {"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}),
        (
            "REVOKED",
            {
                "exc_type": "TaskRevokedError",
                "exc_message": ["revoked"],
                "exc_module": "celery.exceptions",
            },
        ),
    ],
    ids=["sends", "fails", "revokes"],
)
async def test_the_last_part_ends_a_chord_in_place_of_a_worker_that_died_at_it(
    app: Quart, post: Post, state: str, result: Any
) -> None:
    """That one had claimed the body for itself, for some seconds."""
    aside = [add.s(1, 1).set(queue=ASIDE), add.s(2, 2).set(queue=ASIDE)]
    body: Any = await enqueue(chord(aside, total.s()))
    first, second = post.take(), post.take()
    post.deliver(first)
    key = RECORD + first["headers"]["id"]
    wait_until(lambda: '"SUCCESS"' in str(post.redis.get(key)), description="a part has ended")
    post.wait_until_acknowledged()  # when it is counted
    post.store(second, state, result)
    celery: Any = get_celery(app)
    claim = celery.backend.get_key_for_group(second["headers"]["group"], ".c")
    post.redis.set(claim, "a worker that died", ex=2)
    post.deliver(second, again=True)
    post.wait_until_acknowledged()
    assert await end_of(app, body) == state
    if state == "SUCCESS":
        assert await body.result() == 6


@pytest.mark.slow
async def test_a_part_whose_process_was_lost_sends_the_body_that_it_had_claimed(
    redis_url: str, tmp_path: Path
) -> None:
    """Prefork's parent hears of the loss while the claim lasts, and has no time to wait."""
    soon = {"SERVICE_CELERY__WORKER_LOST_WAIT": "0.5"}  # seconds until the parent is sure of it
    with (
        worker_process("prefork", redis_url, tmp_path, **soon) as process,
        Redis.from_url(redis_url, decode_responses=True) as redis,
    ):
        worker, post = Worker("prefork", process, redis_url, tmp_path), Post(redis)
        async with serving_app(worker, "tests.support.sample_tasks") as app:
            aside = [each.set(queue=ASIDE) for each in (add.s(1, 1), end_process_after.s())]
            body: Any = await enqueue(chord(aside, total.s()))
            first, second = post.take(), post.take()
            post.deliver(first)
            key = RECORD + first["headers"]["id"]
            wait_until(lambda: '"SUCCESS"' in str(redis.get(key)), description="a part has ended")
            post.wait_until_acknowledged()  # when it is counted
            celery: Any = get_celery(app)
            claim = celery.backend.get_key_for_group(second["headers"]["group"], ".c")
            redis.set(claim, "a process that was lost", ex=4)
            post.deliver(second)
            assert await body.result(timeout=45) == 6
            post.wait_until_acknowledged()


@every_pool
async def test_what_a_failure_leads_to_is_made_up_for(
    app: Quart, shared_worker: Worker, post: Post
) -> None:
    """Celery stores the failure first: the rest of the chain, and errbacks, come after it."""
    line = f"failed {uuid4()}"
    fails = raise_error.s("MemoryError").set(queue=ASIDE)
    last: Any = await enqueue(chain(fails, leave_note.si(line)).on_error(errback.s()))
    message = post.take()
    error = {"exc_type": "ValueError", "exc_message": ["as stored"], "exc_module": "builtins"}
    post.store(message, "FAILURE", error)
    post.deliver(message, again=True)
    assert await end_of(app, last) == "FAILURE"
    job_id = message["headers"]["id"]
    wait_until(
        lambda: any(
            note.startswith(f"errback {job_id}") and " ValueError " in note
            for note in shared_worker.notes
        ),
        description="the errback was called with the stored error",
    )
    post.wait_until_acknowledged()
    assert noted(shared_worker, line) == []


@every_pool
async def test_an_id_that_is_asked_for_anew_runs_again(
    app: Quart, shared_worker: Worker, post: Post
) -> None:
    """By an operator, say, in the form that Celery has for it."""
    line = f"anew {uuid4()}"
    job = await leave_note.enqueue(line)
    assert await end_of(app, job) == "SUCCESS"
    celery: Any = get_celery(app)
    await asyncio.to_thread(lambda: celery.send_task(leave_note.name, (line,), task_id=job.id))
    wait_until(lambda: noted(shared_worker, line) == [line, line], description="it has run again")
    post.wait_until_acknowledged()


@every_pool
@pytest.mark.parametrize("error", ["DeadLetterError", "Reject"])
async def test_a_dead_letter_that_was_put_back_runs(
    shared_worker: Worker, app: Quart, post: Post, error: str
) -> None:
    """By hand, or by a tool of its broker: its record says FAILURE still."""
    line = f"put back {uuid4()}"
    await leave_note.options(queue=ASIDE).enqueue(line)
    message = post.take()
    post.store(message, "FAILURE", {"exc_type": error, "exc_message": [], "exc_module": "x"})
    post.deliver(message, again=True)
    shared_worker.wait_for_note(line)
    post.wait_until_acknowledged()


@every_pool
async def test_a_retry_runs_although_its_job_has_ended(
    app: Quart, shared_worker: Worker, post: Post
) -> None:
    """Celery's `retry(throw=False)` lets the body end as it likes."""
    line = f"retried at its end {uuid4()}"
    await retry_and_end.enqueue(line)
    shared_worker.wait_for_note(f"{line} 1")
    post.wait_until_acknowledged()
    assert noted(shared_worker, line) == [f"{line} 0", f"{line} 1"]


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
async def test_a_worker_that_is_killed_before_the_ack_leaves_nothing_to_run(
    redis_url: str, tmp_path: Path, pool: str
) -> None:
    """The whole of it, with a lease that expires."""
    await _is_killed_before_the_ack(pool, redis_url, tmp_path, SERVICE_LEASE="1")


@pytest.mark.rabbitmq
@pytest.mark.timeout(120)
@needs_rabbitmq
async def test_over_rabbitmq_it_does_not_run_again_either(redis_url: str, tmp_path: Path) -> None:
    """There the server gives the message to the next worker at once."""
    with rabbitmq(tmp_path) as (_, broker):
        await _is_killed_before_the_ack(
            "asyncio", redis_url, tmp_path, SERVICE_CELERY__BROKER_URL=broker
        )


async def _is_killed_before_the_ack(
    pool: str, redis_url: str, folder: Path, **settings: str
) -> None:
    doomed = worker_process(pool, redis_url, folder, **settings)
    worker = Worker(pool, doomed, redis_url, folder)
    async with serving_app(worker, "tests.support.sample_tasks", **settings) as app:
        with doomed:
            job = await hang_after.enqueue("once")
            assert await end_of(app, job) == "SUCCESS"
            doomed.kill()
        worker.open_gate("after")
        with worker_process(pool, redis_url, folder, **settings) as heir:
            heir.wait_for_output(f"Job {job.id} is not run again")
            await (await leave_note.enqueue("next")).result(timeout=45)
    assert [line for line in worker.notes if line in {"once", "next"}] == ["once", "next"]
