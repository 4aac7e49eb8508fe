"""A job that hangs is ended at its hard limit, and the worker goes on."""

from pathlib import Path
from typing import Any

import pytest

from service import create_app
from service.errors import JobFailedError
from service.jobs.handle import TaskHandle
from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
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
                await (await sample.hang.enqueue()).result(timeout=45)
            assert await (await sample.add_async.enqueue(1, 2)).result(timeout=45) == 3


@pytest.mark.parametrize("errback", [sample.errback, sample.errback_async])
async def test_preforks_parent_has_hooks_and_errbacks_run_in_a_child(
    tmp_path: Path, errback: TaskHandle[..., Any, Any]
) -> None:
    """Celery calls them in the parent, which has no loop, and where the app was not started."""
    with running_worker("prefork", tmp_path, "--concurrency", "1") as worker:
        async with serving_app(worker, "tests.support.sample_tasks"):
            sent = sample.hang_with_hooks.apply_async(link_error=errback.s())
            for hook in ("on_failure", "after_return"):
                worker.wait_for_note(f"{hook} open {sent.id} of the sample")
            thread = "loop" if errback is sample.errback_async else "thread"
            worker.wait_for_note(
                f"{errback.name.removeprefix('sample.')} {sent.id} {sent.id} {sent.id}"
                f" sample.hang_with_hooks TimeLimitExceeded of the sample {thread}"
            )
            assert await (await sample.add_async.enqueue(1, 2)).result(timeout=45) == 3
        assert "never awaited" not in worker.process.output
