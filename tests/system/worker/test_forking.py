"""A body forks, and lets the copy of its process run on."""

from pathlib import Path

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.process import is_alive
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
@pytest.mark.parametrize("task", ["fork", "fork_in_child_task", "fork_in_thread", "fork_and_fail"])
def test_a_copy_of_the_worker_leaves_its_jobs_alone(
    own_valkey: Valkey, tmp_path: Path, pool: str, task: str
) -> None:
    """The copy read and wrote on the worker's connections, which then hung, for SIGTERM too."""
    with Bench(own_valkey.url, tmp_path) as bench, bench.worker(pool=pool) as worker:
        ready(worker)
        others = {f"beside{i}": bench.send("work", f"beside{i}", 0.5) for i in range(3)}
        job = bench.send(task, "forks")
        bench.wait_for(job)
        assert bench.result(job)["result"] == "worker"
        others |= {f"after{i}": bench.send("work", f"after{i}") for i in range(3)}
        for each in others.values():
            bench.wait_for(each)
        bench.wait_until_empty()
        assert worker.stop() == 0
        assert all(
            bench.count("end", f"{when}{i}") == 1 for when in ("beside", "after") for i in range(3)
        )
        pids = {int(pid) for pid, _ in bench.starts("forks")}
        assert len(pids) == 2
        wait_until(lambda: not any(map(is_alive, pids)), description="the copy has ended")
