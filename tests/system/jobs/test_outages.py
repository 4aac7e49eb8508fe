"""What follows a job outlives an outage of Redis."""

import time
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord
from kombu.utils.uuid import uuid
from quart import Quart

from service import enqueue
from service.parts import parts_of
from tests.support.pool_tasks import wait_at_gate
from tests.support.sample_tasks import leave_note, retry_behind_gate
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import MODULES, Worker, worker_process

LONG = 4.0  # seconds: longer than a worker waits for one answer


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
async def test_what_follows_a_job_is_sent_when_redis_is_back(
    own_valkey: Valkey, tmp_path: Path, pool: str
) -> None:
    """The next job of a chain, the body of a chord, a retry."""
    settings = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_REDIS_TIMEOUT": "1"}
    options = ("--concurrency", "6")
    with worker_process(pool, own_valkey.url, tmp_path, *options, **settings) as process:
        worker = Worker(pool, process, own_valkey.url, tmp_path)
        async with serving_app(worker, MODULES) as app:
            parts = [wait_at_gate.si("on").set(task_id=uuid()) for _ in range(3)]
            following = [leave_note.si(line).set(task_id=uuid()) for line in ("next", "body")]
            await enqueue(chain(parts[0], following[0]))
            await enqueue(chord(parts[1:], following[1]))
            retried = await retry_behind_gate.enqueue("on")
            for part in parts:
                worker.wait_for_note(f"started {part.id}")
            await _wait_until_started(app, retried.id)
            own_valkey.kill()
            worker.open_gate("on")
            over = time.monotonic() + LONG
            wait_until(lambda: time.monotonic() > over, description="the outage was long")
            own_valkey.restart()
            for job_id in (*(each.id for each in (*parts, *following)), retried.id):
                assert await _end_of(app, job_id) == "SUCCESS", worker.process.output


async def _wait_until_started(app: Quart, job_id: str) -> None:
    async def has_started() -> bool:
        return (await parts_of(app).store.get(job_id)).state == "STARTED"

    await wait_until_async(has_started, description=f"{job_id} has started")


async def _end_of(app: Quart, job_id: str) -> Any:
    return (await parts_of(app).watcher.wait(job_id, 45)).state
