"""`Jobs(worker_lifespan=…)`: what the workers of a host need that is no Quart app."""

import os
import sys
from pathlib import Path

import pytest

from service import Jobs
from tests.support.mounted_app import is_on_the_same_loop, tasks
from tests.support.process import Process
from tests.support.wait import wait_until


@pytest.mark.parametrize(("pool", "processes"), [("asyncio", 1), ("prefork", 2)])
async def test_it_is_entered_once_in_each_process_that_runs_jobs(
    pool: str, processes: int, redis_url: str, tmp_path: Path
) -> None:
    """On the loop of the jobs, before the first; and left when the worker ends."""
    notes = tmp_path / "notes"
    which = [] if pool == "asyncio" else ["--pool", pool]
    command = ["celery", "-A", "tests.support.mounted_app", "worker", "--loglevel", "INFO"]
    with Process(
        [sys.executable, "-m", *command, "--concurrency", "2", *which],
        env={"SERVICE_REDIS_URL": redis_url, "SAMPLE_NOTES": str(notes)},
    ) as worker:
        async with Jobs(tasks=[tasks], config={"SERVICE_REDIS_URL": redis_url}).lifespan():
            assert await (await is_on_the_same_loop.enqueue()).result(timeout=45)
        wait_until(
            lambda: notes.read_text().count("entered") == processes, description="all have entered"
        )
        assert worker.stop() == 0
    lines = notes.read_text().splitlines()
    pids = {line.partition(" ")[2] for line in lines}
    assert len(lines) == 2 * processes
    assert len(pids) == processes
    assert str(os.getpid()) not in pids
