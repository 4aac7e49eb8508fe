"""A lease is short, a job may be long: it runs once all the same."""

import signal

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.wait import wait_until

_SMALL = [pytest.param(pool, marks=pytest.mark.chaos) for pool in ("threads", "solo")]
pytestmark = pytest.mark.parametrize("pool", [*MAINLY_ASYNCIO, *_SMALL])


def test_long_and_scheduled_jobs_run_once(bench: Bench, pool: str) -> None:
    """Stock Celery runs both again as soon as the visibility timeout is over, and again."""
    three = 3 * bench.lease
    with (
        bench.worker("one", pool=pool, concurrency=1) as one,
        bench.worker("two", pool=pool, concurrency=1) as two,
    ):
        ready(one, two)
        jobs = [
            bench.send("work", "long", three),
            bench.send("work", "eta", 0, countdown=three),
        ]
        for job in jobs:
            bench.wait_for(job)
        bench.wait_until_empty()
        assert bench.count("start", "long") == bench.count("start", "eta") == 1
        assert "LOST" not in one.output + two.output


def test_a_worker_that_ends_warmly_gives_back_what_it_has_not_begun(
    bench: Bench, pool: str
) -> None:
    """A deployment must neither lose jobs nor wait for those that are scheduled for tomorrow."""
    with bench.worker(pool=pool, concurrency=1) as worker:
        ready(worker)
        bench.send("work", "eta", 0, countdown=600)
        bench.send_to_hold("work", "held", seconds=600)
        wait_until(
            lambda: bench.redis.hlen("unacked") == bench.redis.zcard("celery.scheduled") == 1,
            description="one waits in Redis, the other is held",
        )
        running = bench.send("work", "running", 1.5 * bench.lease)
        bench.wait_for_note("start", "running")
        assert worker.stop(signal.SIGTERM) == 0
        assert bench.state(running) == "SUCCESS"
        assert bench.redis.hlen("unacked") == 0
        assert bench.redis.zcard("celery.scheduled") == bench.redis.llen("celery") == 1
