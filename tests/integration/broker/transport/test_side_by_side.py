"""Ours and stock workers and clients share one broker, and each can take over from the other."""

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.wait import wait_until

pytestmark = pytest.mark.parametrize("pool", MAINLY_ASYNCIO)


def test_stock_clients_and_workers_understand_ours(bench: Bench, pool: str) -> None:
    """The transport can be brought in one process after the other."""
    with bench.worker("ours", pool=pool) as ours, bench.worker("stock", stock=True) as stock:
        ready(ours, stock)
        jobs = [bench.send("work", f"j{i}", 0.05, stock=i % 2 == 0) for i in range(40)]
        for job in jobs:
            bench.wait_for(job)
        bench.wait_until_empty()
        assert all(bench.count("start", f"j{i}") == 1 for i in range(40))
        assert "received" in ours.output
        assert "received" in stock.output


def test_a_stock_workers_long_job_is_left_alone(bench: Bench, pool: str) -> None:
    """It holds without renewing: only its own visibility timeout ends that."""
    with bench.worker("stock", stock=True, concurrency=1) as stock:
        ready(stock)
        job = bench.send("work", "long", 3 * bench.lease)
        bench.wait_for_note("start", "long")
        with bench.worker("ours", pool=pool) as ours:
            ready(ours)
            bench.wait_for(job)
    assert bench.count("start", "long") == 1


def test_the_transport_is_switched_off_and_on_with_jobs_in_flight(bench: Bench, pool: str) -> None:
    """Each side recovers what the other one held."""
    short = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    with bench.worker("ours", pool=pool) as ours:
        ready(ours)
        jobs = [bench.send("work", f"a{i}", 0.5) for i in range(6)]
        bench.wait_for_note("start", "a0")
        ours.kill()
    with bench.worker("stock", stock=True, options=short) as stock:
        ready(stock)
        for job in jobs:
            bench.wait_for(job)
        jobs = [bench.send("work", f"b{i}", 0.5, stock=True) for i in range(6)]
        bench.wait_for_note("start", "b0")
        stock.kill()
    with bench.worker("ours", pool=pool, options=short) as ours:
        ready(ours)
        for job in jobs:
            bench.wait_for(job)
        bench.wait_until_empty()
    wait_until(lambda: not bench.redis.exists("unacked"), description="nothing is held")
