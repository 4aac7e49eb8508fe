"""A job that hangs is ended at its hard limit, and the worker goes on."""

from pathlib import Path

import pytest

from service import create_app
from service.errors import JobFailedError
from tests.support import sample_tasks as sample
from tests.support.workers import running_worker


async def test_prefork_ends_what_hangs_and_runs_the_next_job(tmp_path: Path) -> None:
    """The parent stores that result; the child that it forks next has to work all the same."""
    with running_worker("prefork", tmp_path, "--concurrency", "1") as worker:
        app = create_app(
            {
                "SERVICE_REDIS_URL": worker.redis_url,
                "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
            }
        )
        async with app.test_app(), app.app_context():
            with pytest.raises(JobFailedError, match="TimeLimitExceeded"):
                await (await sample.hang.enqueue()).result(timeout=15)
            assert await (await sample.add_async.enqueue(1, 2)).result(timeout=15) == 3
