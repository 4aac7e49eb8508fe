"""Two thousand unlike jobs at once, each of which must end as it should."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import chain

from service import get_celery
from service.jobs.handle import TaskHandle
from service.jobs.job import Job
from service.parts import parts_of
from service.results.model import Result, State
from tests.support import pool_tasks as pool
from tests.support.serving import serving_app
from tests.support.workers import running_worker

MODULES = "tests.support.sample_tasks,tests.support.pool_tasks"
JOBS = 2000
KINDS = ("plain", "sleeping", "failing", "thread", "retried", "chained", "cancelled")


@pytest.mark.timeout(120)
async def test_every_one_of_2000_mixed_jobs_ends_as_it_should(tmp_path: Path) -> None:
    """Sync, async, failing, retried, chained and cancelled, interleaved as they come."""
    with running_worker(
        "asyncio", tmp_path, "--concurrency", "500", SERVICE_TASK_MODULES=MODULES
    ) as worker:
        async with serving_app(worker, MODULES) as app:
            sent: dict[int, str] = {}
            for start in range(0, JOBS, 50):
                numbers = range(start, start + 50)
                ids = await asyncio.gather(*(send(number) for number in numbers))
                sent.update(zip(numbers, ids, strict=True))
            cancelled = [sent[n] for n in sent if kind_of(n) == "cancelled"]
            get_celery(app).control.revoke(cancelled, terminate=True)

            watcher = parts_of(app).watcher
            wrong = Counter[str]()
            for number, job_id in sent.items():
                result = await watcher.wait(job_id, 90)
                if not is_right(number, result):
                    wrong[f"{kind_of(number)} ended as {result.state} {result.error}"] += 1
            assert not wrong
            assert worker.process.stop() == 0
            assert "Traceback" not in without_expected_failures(worker.process.output)


def kind_of(number: int) -> str:
    return KINDS[number % len(KINDS)]


async def send(number: int) -> str:
    """Send one job; the id of the one whose end is looked at."""
    kind = kind_of(number)
    if kind == "chained":
        links: Any = chain(pool.mixed.s(kind, number), pool.mixed_in_thread.s())
        return str((await asyncio.to_thread(links.apply_async)).id)
    handles: dict[str, tuple[TaskHandle[..., Any, Any], tuple[Any, ...]]] = {
        "thread": (pool.mixed_in_thread, (number,)),
        "retried": (pool.mixed_retried, (number,)),
        "cancelled": (pool.sleep_long, ()),
    }
    handle, args = handles.get(kind, (pool.mixed, (kind, number)))
    job: Job[Any] = await handle.enqueue(*args)
    return job.id


def is_right(number: int, result: Result) -> bool:
    kind = kind_of(number)
    if kind == "failing":
        return result.error is not None and result.error.message == str(number)
    if kind == "cancelled":
        return result.state is State.REVOKED
    return bool(result.result == number)


def without_expected_failures(output: str) -> str:
    """The log without the tracebacks that the failing jobs are meant to leave there."""
    entries = output.split("\n[")
    return "\n[".join(entry for entry in entries if "ValueError" not in entry)
