"""A worker that is refused threads: no job fails for it, and all goes on when they can be had."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support import pool_tasks as pool
from tests.support import stop_tasks as stop
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.system.worker.test_pool_shutdown import queued, worker_on

MODULES = "tests.support.sample_tasks,tests.support.pool_tasks,tests.support.stop_tasks"
ENV = {"SERVICE_TASK_MODULES": MODULES}
TIMEOUT = 45.0
TOO_LITTLE = 6 << 20  # bytes: a thread wants a stack of 8 MB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")


async def test_sync_jobs_wait_for_threads(own_valkey: Valkey, tmp_path: Path) -> None:
    """They failed, and some ran all the same; those that waited were never begun."""
    with worker_on(own_valkey, tmp_path, "--concurrency", "20", **ENV) as worker:
        async with serving_app(worker, MODULES):
            await (await stop.limit_address_space.enqueue(TOO_LITTLE)).result(timeout=TIMEOUT)
            jobs = [await stop.end_in_thread.enqueue("gate") for _ in range(6)]
            worker.process.wait_for_output("A thread cannot be started")
            assert await (await pool.nap.enqueue(0.0)).result(timeout=TIMEOUT) == 0.0
            assert not any(line.startswith("started") for line in worker.notes)
            await (await stop.limit_address_space.enqueue(0)).result(timeout=TIMEOUT)
            worker.open_gate("gate")
            for job in jobs:
                assert await job.result(timeout=TIMEOUT) == "gate"
            assert sum(line.startswith("ended") for line in worker.notes) == len(jobs)


async def test_a_worker_without_threads_stops(own_valkey: Valkey, tmp_path: Path) -> None:
    """What has waited for a thread goes back."""
    with worker_on(own_valkey, tmp_path, SERVICE_GRACE="0.1", **ENV) as worker:
        async with serving_app(worker, MODULES):
            await (await stop.limit_address_space.enqueue(TOO_LITTLE)).result(timeout=TIMEOUT)
            await stop.end_in_thread.enqueue("gate")
            worker.process.wait_for_output("A thread cannot be started")
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(TIMEOUT) == 0
            assert queued(own_valkey) == 1
