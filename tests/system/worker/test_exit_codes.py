"""A worker that ends for want of something says so, to people and to process managers."""

import resource
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.sample_tasks import add
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.workers import Worker, worker_process
from tests.system.worker.test_pool_shutdown import worker_on

# Descriptors; each is missed at another point of the start, for which a worker needs about forty.
_TOO_FEW = (16, 19, 22, 27, 32, 34)


def test_a_worker_without_descriptors_fails_and_says_so(redis_url: str, tmp_path: Path) -> None:
    """It ended with 0, or connected anew each second, and did not say why."""
    with ExitStack() as stack:
        workers = []
        for limit in _TOO_FEW:
            worker = worker_process("asyncio", redis_url, tmp_path)
            worker.command = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *worker.command]
            workers.append(stack.enter_context(worker))
        wait_until(
            lambda: all(worker.returncode is not None for worker in workers),
            timeout=60,
            description="all have ended",
        )
        assert all(worker.returncode for worker in workers)
        assert all("Too many open files" in worker.output for worker in workers)
        assert "ulimit -n" in workers[-1].output


@pytest.mark.skipif(sys.platform != "linux", reason="it changes the limit of another process")
async def test_a_worker_goes_on_when_descriptors_are_free_again(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """With six too few it connected anew each second without saying why; with none it ended."""
    with worker_on(own_valkey, tmp_path) as worker:
        before = resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE)
        for limit in (30, 3):
            resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
            said = _count(worker)
            with own_valkey.client() as client:
                client.client_kill_filter(skipme=True)
            wait_until(
                lambda: _count(worker) > said,  # noqa: B023  waited for here
                description=f"the worker says what is wrong with {limit} descriptors",
            )
            assert worker.process.returncode is None
            output = worker.process.output
            assert "network:" not in output  # a `repr` of redis-py's, which says nothing
            assert "Logging error" not in output
            resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, before)
            async with serving_app(worker, "tests.support.sample_tasks"):
                assert await (await add.enqueue(1, 2)).result(timeout=30) == 3


def _count(worker: Worker) -> int:
    return worker.process.output.count("Too many open files")
