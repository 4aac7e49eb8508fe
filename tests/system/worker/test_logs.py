"""What a worker's log says of its jobs, as JSON and as text."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.errors import JobFailedError
from service.jobs.job import Job
from service.logs.ids import request_id
from service.parts import parts_of
from service.results.model import State
from tests.support import sample_tasks as sample
from tests.support.broker import MAINLY_ASYNCIO
from tests.support.serving import serving_app
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import Worker, running_worker
from tests.unit.logs.test_worker_lines import EVIL, FORGED

TASKS = "tests.support.sample_tasks"


async def run_all(worker: Worker) -> dict[str, Job[Any]]:
    """A job of each kind of end; they have ended."""
    async with serving_app(worker, TASKS) as app:
        token = request_id.set("r-1")
        jobs: dict[str, Job[Any]] = {
            "log": await sample.log_async.enqueue(),
            "sync": await sample.log_sync.enqueue(),
            "fail": await sample.fail_with.enqueue(EVIL),
            "retry": await sample.retry.enqueue(),
            "cancel": await sample.limited.enqueue(False),
            "parent": await sample.enqueue_another.enqueue(),
        }
        request_id.reset(token)
        cancelled = jobs["cancel"]

        async def runs() -> bool:
            return (await parts_of(app).store.get(cancelled.id)).state is State.STARTED

        await wait_until_async(runs, description="the job to be cancelled runs")
        await cancelled.cancel()
        for job in jobs.values():
            with suppress(JobFailedError):
                await job.result(timeout=30)
        child = await jobs["parent"].result(timeout=30)
        return {**jobs, "child": Job(child, "sample.add", parts_of(app).enqueuer)}


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
async def test_a_log_of_json_has_one_object_on_each_line(tmp_path: Path, pool: str) -> None:
    """From the first line on; with one line for the end of each attempt, and its figures."""
    with running_worker(pool, tmp_path, SERVICE_LOG="json") as worker:
        jobs = await run_all(worker)

        def lines(job: str = "") -> list[dict[str, Any]]:
            written = worker.process.output.splitlines()
            # A handler of the user's own stays as it is.
            told = [json.loads(each) for each in written if not each.startswith("own logged")]
            return [each for each in told if not job or each.get("job_id") == jobs[job].id]

        def ends(job: str) -> list[tuple[Any, ...]]:
            return [(each["state"], each["attempt"]) for each in lines(job) if "state" in each]

        expected = {
            "log": [("SUCCESS", 1)],
            "sync": [("SUCCESS", 1)],
            "fail": [("FAILURE", 1)],
            "retry": [("RETRY", 1), ("RETRY", 2), ("SUCCESS", 3)],
            "cancel": [("REVOKED", 1)],
            "parent": [("SUCCESS", 1)],
            "child": [("SUCCESS", 1)],
        }
        wait_until(
            lambda: {job: ends(job) for job in jobs} == expected,
            description=f"each end has its line: {[(job, ends(job)) for job in jobs]}",
        )
        for job, told in ((name, line) for name in jobs for line in lines(name)):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", told["time"])
            assert told["task"] == jobs[job].task
            assert told.get("queue", "celery") == "celery"
            assert told["worker"].startswith("celery@")
            is_to_come = told["logger"] == "celery.worker.strategy"
            assert told.get("request_id") == (None if is_to_come else "r-1")
            if "state" in told:
                assert told.get("waited_ms", 0) >= 0
                assert told["ran_ms"] >= 0
                assert "data" not in told
        for which, count in (("log", 3), ("sync", 1)):
            bodies = [each for each in lines(which) if each["logger"] == "tests.elsewhere"]
            assert [each["attempt"] for each in bodies] == [1] * count
        (failed,) = (each for each in lines("fail") if "state" in each)
        assert EVIL in failed["exception"]


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_a_log_of_text_cannot_be_forged(shared_worker: Worker) -> None:
    """By the error of a job; the line of its end has the same figures."""
    begin = len(shared_worker.process.output)
    jobs = await run_all(shared_worker)
    output = ""

    def ended(job: str) -> re.Match[str] | None:
        nonlocal output
        output = shared_worker.process.output[begin:]
        return re.search(
            rf"\[{jobs[job].id}\].*; state=\w+( waited_ms=[\d.]+)? ran_ms=[\d.]+$",
            output,
            re.MULTILINE,
        )

    for job in jobs:
        wait_until(lambda job=job: ended(job), description=f"the end of {job} has a line")  # type: ignore[misc]  # mypy: no type of a lambda's default
    lines = output.split("\n")
    assert not [line for line in lines if not line.isprintable()]
    assert not [line for line in lines if line.startswith(FORGED)]
