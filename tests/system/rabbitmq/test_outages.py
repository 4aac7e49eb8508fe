"""What workers publish outlives an outage of RabbitMQ, and a job with two messages runs once."""

from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord
from kombu.utils.uuid import uuid
from quart import Quart

from service import enqueue, get_celery
from service.jobs.sending.message import SendRequest
from service.jobs.sending.other_brokers.unsent import copy_of
from service.parts import parts_of
from tests.support.pool_tasks import wait_at_gate
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.sample_tasks import leave_note, retry_behind_gate
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import MODULES, Worker, worker_process
from tests.system.rabbitmq.conftest import Broker

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]


async def test_what_follows_a_job_is_published_when_rabbitmq_is_back(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """The next job of a chain, the body of a chord, a retry. Celery gives up after four tries."""
    settings = {**broker.settings, "SERVICE_TASK_MODULES": MODULES}
    soon = {"SERVICE_CELERY__BROKER_CONNECTION_TIMEOUT": "0.5"}
    options = ("--concurrency", "6")
    with worker_process("asyncio", redis_url, tmp_path, *options, **settings, **soon) as process:
        worker = Worker("asyncio", process, redis_url, tmp_path)
        async with serving_app(worker, MODULES, **settings, SERVICE_ENQUEUE_TIMEOUT="20") as app:
            parts = [wait_at_gate.si("on").set(task_id=uuid()) for _ in range(2)]
            following = [leave_note.si(line).set(task_id=uuid()) for line in ("next", "body")]
            await enqueue(chain(parts[0], following[0]))
            await enqueue(chord([parts[1]], following[1]))
            retried = await retry_behind_gate.enqueue("on")
            for job_id in (*(part.id for part in parts), retried.id):
                await _wait_for(app, job_id, "STARTED")
            with broker.frozen():
                worker.open_gate("on")
                process.wait_for_output(r"Retrying refused callback publish .* \(5/")
            for job_id in (*(each.id for each in following), retried.id):
                await _wait_for(app, job_id, "SUCCESS")
            assert {"body", "next"} <= {*worker.notes}


async def test_a_job_with_two_messages_runs_once(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """The second one is marked as a copy, and looked at a moment after it has come."""
    settings = {**broker.settings, "SERVICE_TASK_MODULES": MODULES}
    with worker_process("asyncio", redis_url, tmp_path, **settings) as process:
        worker = Worker("asyncio", process, redis_url, tmp_path)
        async with serving_app(worker, MODULES, **settings, SERVICE_ENQUEUE_TIMEOUT="20") as app:
            publisher: Any = await parts_of(app).enqueuer.publisher()
            task, job_id = get_celery(app).task_named(wait_at_gate.name), uuid()
            call = publisher.call_for(SendRequest(task, job_id, ("on",), {}))
            for each in (call, copy_of(call)):
                await publisher.transmit(each)
            process.wait_for_output(f"Job {job_id} has two messages")
            worker.open_gate("on")
            await _wait_for(app, job_id, "SUCCESS")
            await publisher.transmit(copy_of(call))
            process.wait_for_output(f"Job {job_id} is not run again")
            assert process.output.count(f"[{job_id}] succeeded") == 1


async def _wait_for(app: Quart, job_id: str, state: str) -> None:
    key = parts_of(app).keys.record(job_id)

    async def has_it() -> bool:
        record: Any = await parts_of(app).redis.get(key)
        return bool(record) and record.startswith(f'{{"status": "{state}"'.encode())

    await wait_until_async(has_it, description=f"{job_id} is {state}")
