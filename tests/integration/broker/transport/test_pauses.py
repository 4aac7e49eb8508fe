"""A paused queue: no worker takes from it, and all do as soon as it is resumed."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from quart.cli import ScriptInfo
from redis import Redis

from service import create_app
from service.broker.scripts import QueueList, Scripts, Take, Taken
from service.cli.main import service
from service.redis.keys import RECORD, BrokerKeys
from service.tasks.demo import my_add
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

KEYS = BrokerKeys()


@pytest.fixture(name="redis")
def _redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def message(tag: str) -> str:
    return json.dumps({"headers": {"task": "t"}, "properties": {"delivery_tag": tag}})


def take(redis: Redis) -> Taken:
    lists = tuple(QueueList(name, name) for name in ("one", "two"))
    return Scripts(redis, KEYS).take(Take(KEYS, lists, 10, 0, 30.0, waiter="w"))


def test_nothing_is_taken_from_a_paused_queue(redis: Redis) -> None:
    """Not what is due, either; and nobody asks again at once for what is there."""
    redis.lpush("one", message("1"))
    redis.lpush("two", message("2"))
    redis.zadd("one.scheduled", {message("due"): 1.0})
    redis.hset(KEYS.paused, "one", "whatever stands here")
    assert [delivery.ident for delivery in take(redis).deliveries] == ["2"]
    assert not list(redis.scan_iter("unacked_waiting:*:wake"))
    waiting = take(redis)
    assert (waiting.verdict, waiting.deliveries, waiting.next_due) == ("active", (), None)
    redis.hdel(KEYS.paused, "one")
    assert {delivery.ident for delivery in take(redis).deliveries} == {"1", "due"}


def test_it_is_paused_and_resumed_from_the_command_line(redis: Redis, redis_url: str) -> None:
    """With the reason, and a line in the audit for each."""
    info = ScriptInfo(create_app=lambda *_: create_app({"SERVICE_REDIS_URL": redis_url}))

    def run(*arguments: str) -> str:
        return CliRunner().invoke(service, arguments, obj=info).output

    assert run("pause", "mails", "--why", "the relay is down") == "mails is paused.\n"
    stored = redis.hget(KEYS.paused, "mails")
    assert b"the relay is down" in (stored or b"")
    assert run("resume", "mails") == "mails is resumed.\n"
    assert run("resume", "mails") == "mails was not paused.\n"
    assert not redis.exists(KEYS.paused)
    assert b"queue mails: the relay is down" in str(redis.xrange("service:audit")).encode()


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_a_worker_that_waits_begins_when_the_queue_is_resumed(shared_worker: Worker) -> None:
    """Nobody restarts it."""
    async with serving_app(shared_worker, "tests.support.sample_tasks"):
        with Redis.from_url(shared_worker.redis_url) as redis:
            redis.hset(KEYS.paused, "celery", "{}")
            job = await my_add.enqueue(1, 2)
            seconds, micros = redis.time()
            enqueued_at = seconds + micros / 1e6

            def has_looked() -> bool:
                found = [
                    score
                    for doors in redis.scan_iter("unacked_waiting:*:doors")
                    for _, score in redis.zrange(doors, 0, -1, withscores=True)
                ]
                return bool(max(found, default=0.0) > enqueued_at)

            await wait_until_async(has_looked, timeout=30, description="a worker has looked")
            assert b'"QUEUED"' in (redis.get(f"{RECORD}{job.id}") or b"")
            redis.hdel(KEYS.paused, "celery")
            assert await job.result(timeout=30) == 3
