"""No job over RabbitMQ is without an end: what it gives up is buried, as on Redis."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from kombu.utils.uuid import uuid
from quart import Quart

from service import enqueue, get_celery
from service.errors import UnknownJobError
from service.parts import parts_of
from tests.support.dead import dead_letters_command
from tests.support.process import Process
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.sample_tasks import add, end_process, errback, leave_note, note_slowly
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker, worker_process
from tests.system.rabbitmq.conftest import Broker

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]

MODULES = "tests.support.sample_tasks"


async def state_of(app: Quart, job_id: str) -> str:
    try:
        return (await parts_of(app).store.get(job_id)).state
    except UnknownJobError:
        return ""


async def have_ended(app: Quart, *job_ids: str) -> bool:
    states = [await state_of(app, job_id) for job_id in job_ids]
    return all(state in {"SUCCESS", "FAILURE", "REVOKED"} for state in states)


async def test_a_job_that_ends_its_workers_is_buried_and_its_neighbours_end(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """RabbitMQ counts their deliveries as it counts those of the job that ended the worker."""
    settings = {**broker.settings, "SERVICE_MAX_DELIVERIES": "2"}
    command = partial(
        dead_letters_command,
        redis_url=redis_url,
        check=True,
        **settings,
        SERVICE_TASK_MODULES=MODULES,
    )

    def another() -> Process:
        return worker_process("asyncio", redis_url, tmp_path, "--concurrency", "6", **settings)

    first = another()
    worker = Worker("asyncio", first, redis_url, tmp_path)
    async with serving_app(worker, MODULES, **settings) as app:
        killer = end_process.si().set(task_id=uuid()).on_error(errback.s())
        rest = leave_note.si("never").set(task_id=uuid())
        neighbours = [await note_slowly.enqueue(f"neighbour {number}") for number in range(4)]
        await enqueue(chain(killer, rest))
        ids = [killer.id, rest.id, *(job.id for job in neighbours)]
        for number in range(12):
            with first if number == 0 else another() as process:
                await wait_until_async(
                    lambda: _is_over(process, app, ids),
                    timeout=60,
                    description="the worker dies, or all have ended",
                )
                if await have_ended(app, *ids):
                    await wait_until_async(
                        lambda: _has(parts_of(app).redis, f"{broker.queue}.dead", 1),
                        description="the job is a dead letter",
                    )
                    break
        states = [await state_of(app, job_id) for job_id in ids]
        assert states == ["FAILURE", "FAILURE", *["SUCCESS"] * 4]
        result = await parts_of(app).store.get(killer.id)
        assert result.error is not None
        assert "delivered 2 times" in result.error.message
        (line,) = command("list").stdout.splitlines()
        assert killer.id in line
        assert broker.queue in line
        assert command("replay", killer.id).stdout == "1 replayed.\n"
        assert await state_of(app, killer.id) == "QUEUED"
        assert await state_of(app, rest.id) == "QUEUED"
        celery = get_celery(app)
        await wait_until_async(
            lambda: _has_left(celery, broker.queue, 1), description="it is in its queue"
        )


async def _is_over(process: Process, app: Quart, ids: list[str]) -> bool:
    return process.returncode is not None or await have_ended(app, *ids)


@pytest.mark.chaos  # test_canvas_ends.py shows most of it
async def test_what_a_worker_rejects_or_loses_or_rabbitmq_drops_has_an_end(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """A job that ends its child of prefork, one of an unknown task, and one that has expired."""
    settings = {**broker.settings, "SERVICE_MAX_DELIVERIES": "3"}
    process = worker_process("prefork", redis_url, tmp_path, **settings)
    worker = Worker("prefork", process, redis_url, tmp_path)
    async with serving_app(worker, MODULES, **settings) as app:
        expiring = add.si(1, 2).set(expires=0.5, task_id=uuid())
        rest = leave_note.si("never").set(task_id=uuid())
        await enqueue(chain(expiring, rest))
        celery: Any = get_celery(app)
        unknown = celery.signature("sample.unknown").set(task_id=uuid())
        await enqueue(unknown)
        killer = await end_process.enqueue()
        await wait_until_async(
            lambda: _has_left(celery, broker.queue, 2), description="the first has expired"
        )
        ids = [expiring.id, rest.id, unknown.id, killer.id]
        with process:
            await wait_until_async(
                lambda: have_ended(app, *ids), timeout=60, description="all have ended"
            )
            states = [await state_of(app, job_id) for job_id in ids]
            assert states == ["REVOKED", "REVOKED", "FAILURE", "FAILURE"]
            keys = f"{broker.queue}.dead"
            client = parts_of(app).redis
            await wait_until_async(
                lambda: _has(client, keys, 2), description="both are dead letters"
            )


async def _has(client: Any, key: str, count: int) -> bool:
    return int(await client.llen(key)) == count


async def _has_left(celery: Any, queue: str, count: int) -> bool:
    def ask() -> bool:
        with celery.connection_for_read() as connection:
            found = connection.default_channel.queue_declare(queue, passive=True)
            return int(found.message_count) == count

    return await asyncio.to_thread(ask)
