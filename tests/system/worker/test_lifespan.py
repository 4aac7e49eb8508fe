"""The app's own start-up and shutdown around a worker."""

from pathlib import Path

import pytest

from tests.support.workers import running_worker, worker_process

POOLS = ["asyncio", "prefork", "threads", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_after_serving_runs_once_in_each_process_that_started(pool: str, tmp_path: Path) -> None:
    """So do Celery's signals around it, by which agents watch a process; the worker ends with 0."""
    with running_worker(pool, tmp_path) as worker:
        assert worker.process.stop() == 0
        started = sorted(pid_of(line) for line in worker.notes if line.startswith("before_"))
        assert len(started) == (2 if pool == "prefork" else 1)
        for pid in started:
            assert [line for line in worker.notes if pid_of(line) == pid] == [
                f"process_init {pid}",
                f"before_serving {pid}",
                f"process_shutdown {pid}",
                f"after_serving {pid}",
            ]


@pytest.mark.parametrize(
    ("pool", "how"), [*((pool, "fails") for pool in POOLS), ("prefork", "fails late")]
)
def test_a_start_up_that_fails_ends_the_worker_with_the_reason(
    pool: str, how: str, redis_url: str, tmp_path: Path
) -> None:
    """Otherwise it would take jobs that cannot work; a prefork pool would restart for ever.

    Late, when that pool has started and can be waited for.
    """
    with worker_process(pool, redis_url, tmp_path, SAMPLE_START_UP=how) as process:
        assert process.wait(timeout=20) != 0
        assert "start-up failed" in process.output
        assert "the sample's database is not there" in process.output


def pid_of(note: str) -> int:
    return int(note.split()[1])
