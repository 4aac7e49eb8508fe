"""A worker that ends for want of something says so, to people and to process managers."""

from contextlib import ExitStack
from pathlib import Path

from tests.support.wait import wait_until
from tests.support.workers import worker_process

# Descriptors; each is missed at another point of the start, for which a worker needs about thirty.
_TOO_FEW = (16, 18, 20, 22, 24)


def test_a_worker_without_descriptors_fails_and_says_so(redis_url: str, tmp_path: Path) -> None:
    """It ended with 0: Celery loses the exit code of a cold shutdown of its own."""
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
