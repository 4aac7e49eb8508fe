"""A person can see what was given up on, and have it run again."""

import json
import sys
from typing import Any

from celery import chain
from redis.asyncio import Redis

from service.broker.dead_letters.store import DeadLetters
from service.redis.keys import BrokerKeys, ResultKeys
from tests.support.broker import TASKS, Bench, ready
from tests.support.process import Process
from tests.support.wait import wait_until


def _letters(client: Redis) -> DeadLetters:
    return DeadLetters(client, client, result_keys=ResultKeys(ttl=60), broker_keys=BrokerKeys())


async def test_a_dead_job_is_listed_and_replayed(bench: Bench) -> None:
    """A deployment that forgot a task: its jobs wait among the dead letters."""
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        job = str(bench.client().send_task(f"{TASKS}.later", args=("x",)).id)
        bench.wait_for(job, "FAILURE")
        wait_until(lambda: bench.redis.llen("celery.dead") == 1, description="it is dead")
        worker.stop()
    async with Redis.from_url(bench.url) as client:
        letters = _letters(client)
        letter = await letters.get(job)
        assert letter is not None
        assert (letter.job_id, letter.task, letter.queue) == (job, f"{TASKS}.later", "celery")
        assert "later" in letter.reason
        assert await letters.replay(letter)
        assert not await letters.replay(letter)
        assert (await letters.page("celery")).total == 0
        assert bench.redis.llen("celery") == 1
        assert bench.state(job) == "QUEUED"


async def test_the_rest_of_a_chain_shares_the_fate_of_its_dead_letter(bench: Bench) -> None:
    """It fails with it, and waits again when that is replayed; but what was cancelled stays so."""
    bench.options["max_deliveries"] = 2
    steps = [bench.client().signature(f"{TASKS}.{name}", immutable=True) for name in "abc"]
    steps[0] = bench.client().signature(f"{TASKS}.die", args=("x",))
    last: Any = chain(*steps).apply_async()
    first, middle = last.parent.parent.id, last.parent.id
    cancelled = json.dumps({"status": "REVOKED", "result": None})
    bench.redis.set(f"celery-task-meta-{middle}", cancelled, ex=60)
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        bench.wait_for(last.id, "FAILURE")
        assert bench.result(last.id)["result"]["exc_type"] == "DeadLetterError"
        wait_until(lambda: bench.redis.llen("celery.dead") == 1, description="it is dead")
        worker.stop()
    async with Redis.from_url(bench.url) as client:
        letter = await _letters(client).get(first)
        assert letter is not None
        assert await _letters(client).replay(letter)
    states = [bench.state(job) for job in (first, middle, last.id)]
    assert states == ["QUEUED", "REVOKED", "QUEUED"]


async def test_a_page_has_some_of_them_and_counts_all(bench: Bench) -> None:
    """There may be thousands."""
    bench.redis.lpush("celery", "not json", "nor this")
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        wait_until(lambda: bench.redis.llen("celery.dead") == 2, description="both are dead")
    async with Redis.from_url(bench.url) as client:
        letters = _letters(client)
        page = await letters.page("celery", offset=1, limit=1)
        assert page.total == 2
        assert [letter.message for letter in page.letters] == [b"not json"]
        assert await letters.drop(page.letters[0])
        assert not await letters.drop(page.letters[0])
        assert (await letters.page("celery")).total == 1


def test_a_job_that_has_succeeded_is_not_given_up_on(bench: Bench) -> None:
    """Its worker died between the result and the ack, once too often."""
    job = bench.send("noop")
    message = json.loads(str(bench.redis.rpop("celery")))
    message["properties"]["x-deliveries"] = 4
    _hold(bench, message)
    record = json.dumps({"status": "SUCCESS", "result": 1})
    bench.redis.set(f"celery-task-meta-{job}", record, ex=60)
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        wait_until(lambda: not bench.redis.exists("unacked"), description="nobody holds it")
        assert bench.is_empty()
        assert bench.state(job) == "SUCCESS"


def test_who_only_asks_something_moves_nothing(bench: Bench) -> None:
    """It may have another lease than the workers, and its log is read by nobody."""
    bench.send("noop")
    _hold(bench, json.loads(str(bench.redis.rpop("celery"))))
    command = [sys.executable, "-m", "celery", "-A", "worker_entry", "inspect", "ping", "-t", "3"]
    with Process(command, env=bench.settings(), name="inspect") as inspect:
        assert inspect.wait() == 69  # nobody has answered
    assert bench.redis.hlen("unacked") == 1
    assert not bench.redis.exists("unacked_sweeps")


def _hold(bench: Bench, message: dict[str, Any]) -> None:
    """As one who has renewed no lease for years."""
    tag = f"{message['properties']['delivery_tag']}@0-1"
    bench.redis.hset("unacked", tag, f'[{json.dumps(message)},"","celery"]')
    bench.redis.zadd("unacked_index", {tag: 1})
