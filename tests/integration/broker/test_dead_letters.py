"""A person can see what was given up on, and have it run again."""

import json
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from service.broker.dead_letters import AsyncDeadLetters, DeadLetters
from service.results.records import Records
from tests.support.broker import TASKS, Bench, ready
from tests.support.wait import wait_until

RECORDS = Records("celery-task-meta-", 60)


def test_a_dead_job_is_listed_and_replayed(bench: Bench) -> None:
    """A deployment that forgot a task: its jobs wait among the dead letters."""
    with bench.worker(concurrency=1) as worker, Redis.from_url(bench.url) as client:
        ready(worker)
        letters = DeadLetters(client, RECORDS)
        job = str(bench.client().send_task(f"{TASKS}.later", args=("x",)).id)
        bench.wait_for(job, "FAILURE")
        wait_until(lambda: letters.page("celery").total == 1, description="it is dead")
        letter = letters.get(job)
        assert letter is not None
        assert (letter.job_id, letter.task, letter.queue) == (job, f"{TASKS}.later", "celery")
        assert "later" in letter.reason
        worker.stop()
        assert letters.replay(letter)
        assert not letters.replay(letter)
        assert letters.page("celery").total == 0
        assert bench.redis.llen("celery") == 1
        assert bench.state(job) == "QUEUED"


async def test_the_web_side_asks_without_blocking(bench: Bench) -> None:
    """The same questions on an asyncio client."""
    bench.redis.lpush("celery", "not json", "nor this")
    with bench.worker(concurrency=1) as worker:
        ready(worker)
        wait_until(lambda: bench.redis.llen("celery.dead") == 2, description="both are dead")
    async with AsyncRedis.from_url(bench.url) as client:
        letters = AsyncDeadLetters(client, RECORDS)
        page = await letters.page("celery", offset=1, limit=1)
        assert page.total == 2
        assert [letter.message for letter in page.letters] == [b"not json"]
        assert await letters.drop(page.letters[0])
        assert not await letters.drop(page.letters[0])
        assert (await letters.page("celery")).total == 1


def test_a_job_that_has_succeeded_is_not_given_up_on(bench: Bench) -> None:
    """Its worker died between the result and the ack, once too often.

    Whoever cannot ask for results leaves that to a worker.
    """
    client = bench.client()
    client.conf.broker_transport_options = {"lease": bench.lease}
    with client.connection_for_read() as connection:
        channel: Any = connection.channel()
        channel.basic_get("another")  # from now on this process looks for the expired too
        wait_until(lambda: _swept_for(bench) > bench.lease, description="it may recover")
        job = bench.send("noop")
        message = json.loads(str(bench.redis.rpop("celery")))
        message["properties"]["x-deliveries"] = 4
        tag = f"{message['properties']['delivery_tag']}@0-1"
        bench.redis.set(f"celery-task-meta-{job}", json.dumps({"status": "SUCCESS", "result": 1}))
        bench.redis.hset("unacked", tag, f'[{json.dumps(message)},"","celery"]')
        bench.redis.zadd("unacked_index", {tag: 1})
        since = _swept_for(bench)
        wait_until(lambda: _swept_for(bench) > since + bench.lease / 2, description="it has looked")
        assert bench.redis.hexists("unacked", tag)
        with bench.worker(concurrency=1) as worker:
            ready(worker)
            wait_until(lambda: not bench.redis.exists("unacked"), description="nobody holds it")
            assert bench.is_empty()
            assert bench.state(job) == "SUCCESS"


def _swept_for(bench: Bench) -> float:
    """For how many seconds somebody has always looked for what nobody holds any more."""
    sweeps = bench.redis.hgetall("unacked_sweeps")
    return float(sweeps["last"]) - float(sweeps["since"]) if sweeps else 0.0
