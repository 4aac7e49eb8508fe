"""Redis goes away and comes back: nothing is lost, nothing overlaps, no worker ends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.valkey import Valkey
from tests.support.wait import let_pass, wait_until

pytestmark = pytest.mark.parametrize("pool", MAINLY_ASYNCIO)


def _restart(valkey: Valkey, bench: Bench) -> None:
    valkey.kill()
    valkey.start()


def _freeze(valkey: Valkey, bench: Bench) -> None:
    valkey.freeze()
    let_pass(2 * bench.lease)
    valkey.thaw()


def _take_down(valkey: Valkey, bench: Bench) -> None:
    valkey.kill()
    let_pass(2 * bench.lease)
    valkey.start()


def _cut(valkey: Valkey, bench: Bench) -> None:
    mine = bench.redis.client_id()
    for client in bench.redis.client_list():
        if int(client["id"]) != mine:
            bench.redis.client_kill_filter(_id=client["id"])


@pytest.mark.parametrize("fault", [_restart, _freeze, _take_down, _cut])
def test_jobs_of_all_kinds_outlive_an_outage(
    own_bench: Bench, own_valkey: Valkey, pool: str, fault: Callable[[Valkey, Bench], None]
) -> None:
    """Stock workers ended with AttributeError after one second without Redis."""
    bench = own_bench
    with (
        bench.worker("one", pool=pool, concurrency=2) as one,
        bench.worker("two", pool=pool, concurrency=2) as two,
    ):
        ready(one, two)
        jobs = {
            "eta": bench.send("work", "eta", 0.1, countdown=2 * bench.lease),
            "long": bench.send("work", "long", 4 * bench.lease),
            "ends-meanwhile": bench.send("work", "ends-meanwhile", bench.lease),
        }
        bench.wait_for_note("start", "long")
        bench.wait_for_note("start", "ends-meanwhile")
        wait_until(
            lambda: bench.redis.zcard("celery.scheduled") == 1, description="the last one waits"
        )
        jobs |= {f"queued{i}": bench.send("work", f"queued{i}", 0.1) for i in range(8)}
        fault(own_valkey, bench)
        jobs["after"] = bench.send("work", "after", 0.1)
        for job in jobs.values():
            bench.wait_for(job)
        bench.wait_until_empty()
        assert one.returncode is None
        assert two.returncode is None
        runs = {label: bench.count("end", label) for label in jobs}
        assert set(runs.values()) == {1}, runs
        assert all(bench.most_at_once(label) == 1 for label in jobs)


def test_a_finished_job_whose_ack_failed_does_not_run_again(
    own_valkey: Valkey, valkey: Valkey, tmp_path: Path, pool: str
) -> None:
    """Stock Celery only logs an ack that failed."""
    with (
        Bench(own_valkey.url, tmp_path, results=valkey.url) as bench,
        bench.worker(pool=pool, concurrency=1) as worker,
    ):
        ready(worker)
        job = bench.send("work", "once", bench.lease)
        bench.wait_for_note("start", "once")
        own_valkey.kill()
        bench.wait_for(job)
        own_valkey.start()
        with own_valkey.client() as broker:
            wait_until(lambda: not broker.exists("unacked"), description="Redis has the ack")
            let_pass(2 * bench.lease)
            assert not broker.exists("celery", "unacked")
        assert bench.count("start", "once") == 1
        assert worker.returncode is None


def test_results_that_are_away_keep_no_job_from_being_recovered(
    bench: Bench, own_valkey: Valkey, tmp_path: Path, pool: str
) -> None:
    """Nor a worker from ending, though there is a message that it cannot bury meanwhile."""
    apart = Bench(bench.url, tmp_path, results=own_valkey.url, lease=bench.lease)
    with apart, apart.worker("doomed", pool=pool, concurrency=1) as doomed:
        ready(doomed)
        job = apart.send_to_hold("work", "later", seconds=600)
        wait_until(lambda: bench.redis.hlen("unacked") == 1, description="it is held")
        with apart.worker("heir", pool=pool, concurrency=1) as heir:
            ready(heir)
            own_valkey.freeze()
            bench.redis.lpush("celery", '{"headers": {"id": "bad"}, "properties": {}, "body": ""}')
            wait_until(
                lambda: bench.redis.hlen("unacked") == 2, description="both messages are held"
            )
            doomed.kill()
            heir.wait_for_output("is back in celery")
            wait_until(lambda: not bench.redis.exists("celery"), description="the heir has it")
            assert heir.stop() == 0
            assert any(job in message for message in bench.redis.lrange("celery", 0, -1))
            own_valkey.thaw()
