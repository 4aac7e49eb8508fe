"""A worker gives back the memory of jobs that did not end well, as soon as they have ended."""

import asyncio
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import failing_tasks as failing
from tests.support.serving import serving_app
from tests.support.workers import Worker, running_worker

MODULES = "tests.support.sample_tasks,tests.support.failing_tasks"
MB: Final = 1_000_000
AT_ONCE: Final = 4
ROUNDS, ROUND = 40, 2500  # of as many jobs: 100,000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
ENDS = [
    failing.fail,
    failing.fail_in_thread,
    failing.hold_own_error,
    failing.retry,
    failing.be_cancelled,
]


@pytest.mark.parametrize("task", ENDS, ids=lambda task: task.name)
async def test_no_more_is_held_than_by_the_jobs_that_run(tmp_path: Path, task: Any) -> None:
    """Each job that failed kept its frames, and 60 of 50 MB took 1.7 GB."""
    with running_worker_of(tmp_path, AT_ONCE) as worker:
        async with serving_app(worker, MODULES):
            await end(task, [1])
            before = peak(worker)
            await end(task, [50 * MB] * 24)
            assert peak(worker) - before < (AT_ONCE + 2) * 50 * MB


@pytest.mark.chaos
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
async def test_many_jobs_that_do_not_end_well_leave_nothing(tmp_path: Path, pool: str) -> None:
    """100,000 failures, retries and cancellations, after a tenth of them as warm-up."""
    patient = {"SERVICE_ENQUEUE_TIMEOUT": "60", "SERVICE_REDIS_TIMEOUT": "60"}
    with running_worker_of(tmp_path, 40 if pool == "asyncio" else 2, pool) as worker:
        async with serving_app(worker, MODULES, **patient):
            before: dict[int, int] = {}
            for number in range(ROUNDS + ROUNDS // 10):
                await asyncio.gather(*[end(task, [1] * (ROUND // len(ENDS))) for task in ENDS])
                held = resident(worker)
                if number < ROUNDS // 10:
                    before = held
            assert held.keys() == before.keys()  # no child of prefork's has died
            grown = {pid: (size - before[pid]) / MB for pid, size in held.items()}
            assert max(grown.values()) < 20, grown


def running_worker_of(
    folder: Path, concurrency: int, pool: str = "asyncio"
) -> AbstractContextManager[Worker]:
    options = ("--concurrency", str(concurrency))
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_RESULT_EXPIRES": "60"}
    return running_worker(pool, folder, *options, **env)


async def end(task: Any, sizes: list[int]) -> None:
    """Wait until jobs of the task have ended in any way."""
    jobs = await asyncio.gather(*[task.enqueue(size) for size in sizes])
    await asyncio.gather(*[job.result(timeout=60) for job in jobs], return_exceptions=True)


def peak(worker: Worker) -> int:
    """Bytes that the worker's process had at most."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def resident(worker: Worker) -> dict[int, int]:
    """Bytes that each process of the worker has in memory now."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    mine = [pid for pid in pids if _group_of(pid) == worker.process.pid]
    page = os.sysconf("SC_PAGE_SIZE")
    return {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in mine}


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
