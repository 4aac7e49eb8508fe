"""What a worker costs Redis that has nothing to do."""

from pathlib import Path
from typing import Any, Final

from redis import Redis

from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
from tests.support.wait import wait_until
from tests.support.workers import Worker, running_worker

# Two for a sweep and a renewal at once; see service/docs/operating.md.
_CONNECTIONS: Final = 7
_COMMANDS: Final = 15  # a second, those inside of scripts included; some six as a rule


def _others(redis: Redis) -> dict[str, int]:
    """The commands that each connection but this one has sent."""
    found: Any = redis.client_list()
    own = str(redis.client_id())
    return {each["id"]: int(each["tot-cmds"]) for each in found if each["id"] != own}


def _reports(redis: Redis) -> float:
    """When the worker has reported last; 0 if it never has."""
    scores: Any = redis.zrange("service:workers:seen", 0, -1, withscores=True)
    return float(scores[0][1]) if scores else 0.0


async def test_an_idle_worker_has_few_connections_and_asks_for_little(tmp_path: Path) -> None:
    """Thousands of workers share a Redis; each of Kombu's channels had connections of its own."""
    with running_worker("asyncio", tmp_path) as worker, Redis.from_url(worker.redis_url) as redis:
        await _run_a_job(worker)
        wait_until(lambda: len(_others(redis)) <= _CONNECTIONS, description="has few connections")
        before, since = _others(redis), _reports(redis)
        wait_until(lambda: _reports(redis) > since + 3, description="it has idled for 3 s")
        now, seconds = _others(redis), _reports(redis) - since
        sent = sum(now[each] - before.get(each, 0) for each in now)
        assert sent / seconds < _COMMANDS


async def _run_a_job(worker: Worker) -> None:
    """Have the worker open what it needs to store results."""
    async with serving_app(worker, "tests.support.sample_tasks"):
        assert await (await sample.add_async.enqueue(1, 2)).result(timeout=20) == 3
