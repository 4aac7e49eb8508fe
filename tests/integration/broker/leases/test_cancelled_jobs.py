"""Jobs that were cancelled by other things than their callers do not stay held."""

from functools import partial
from pathlib import Path

from tests.support.broker import Bench, ready
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


def test_what_celery_cancels_at_a_lost_connection_runs_again(
    own_bench: Bench, own_valkey: Valkey, tmp_path: Path
) -> None:
    """Whether a job still runs is told by its state, not by what happens to refer to it."""
    bench = own_bench
    bench.extra["SERVICE_CELERY__WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS"] = "true"
    with bench.worker("one", pool="asyncio") as worker:
        ready(worker)
        job = bench.send("hold_error", "held", str(tmp_path / "marker"))
        bench.wait_for_note("start", "held")
        mine = bench.redis.client_id()
        for client in bench.redis.client_list():
            if int(client["id"]) != mine:
                bench.redis.client_kill_filter(_id=client["id"])
        worker.wait_for_output("Connection to broker lost")
        bench.wait_for(job)
        assert bench.count("start", "held") == 2
        bench.wait_until_empty()


def test_a_body_that_cancels_every_asyncio_task_strands_no_other_job(own_bench: Bench) -> None:
    """Not those that run, nor those that begin, nor what reads and writes their records."""
    bench = own_bench
    with bench.worker("one", pool="asyncio", concurrency=50) as worker:
        ready(worker)
        jobs = {f"long{i}": bench.send("work", f"long{i}", 2) for i in range(5)}
        for label in jobs:
            bench.wait_for_note("start", label)
        jobs |= {f"rogue{i}": bench.send("cancel_all", f"rogue{i}") for i in range(3)}
        for i in range(200):
            jobs[f"short{i}"] = bench.send("work", f"short{i}", 0.01)
            if i % 40 == 0:
                jobs[f"more{i}"] = bench.send("cancel_all", f"more{i}")
        for label, job in jobs.items():
            ended = partial(lambda job: bench.state(job) in {"SUCCESS", "FAILURE"}, job)
            wait_until(ended, timeout=30, description=f"{label} has ended")
            # The body of one that was in it has been cancelled, as its writer asked for.
            assert bench.state(job) == "SUCCESS" or bench.count("start", label)
        bench.wait_until_empty()
        assert worker.stop(timeout=30) == 0
