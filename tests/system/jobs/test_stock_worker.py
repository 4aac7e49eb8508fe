"""A stock Celery worker runs what is enqueued here, with every option, over Redis and RabbitMQ."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import chain, chord, group
from quart import Quart

from service import Job, create_app, enqueue, get_celery
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support import typed_tasks as typed
from tests.support.process import Process
from tests.support.rabbitmq import needs_rabbitmq, rabbitmq
from tests.support.sample_tasks import add, total
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

CONF = {
    "broker_transport_options": {"global_keyprefix": "app:", "priority_steps": [0, 5]},
    "result_backend_transport_options": {"global_keyprefix": "app"},
    "task_default_queue": "main",
    "task_routes": {"sample.total": {"queue": "sums"}},
    "task_compression": None,
}


def stock_worker(broker: str, backend: str, conf: dict[str, Any]) -> Process:
    """The worker, not yet started."""
    return Process(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.support.stock_worker", "worker"),
            *("--pool", "threads", "--concurrency", "4", "-Q", "main,sums,other"),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        ],
        env={"STOCK_BROKER": broker, "STOCK_BACKEND": backend, "STOCK_CONF": json.dumps(conf)},
        name="stock worker",
    )


@asynccontextmanager
async def enqueuing(
    redis_url: str, conf: dict[str, Any], modules: str = "tests.support.sample_tasks"
) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": modules,
            **{f"SERVICE_CELERY__{name.upper()}": value for name, value in conf.items()},
        }
    )
    async with app.test_app(), app.app_context():
        yield app


async def check_options(worker: Process) -> None:
    """Send with each option, and see with what each arrived."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    began = time.monotonic()
    jobs = {
        "plain": await add.enqueue(1, 2),
        "id": await add.options(job_id="chosen-by-me").enqueue(1, 2),
        "queue": await add.options(queue="other").enqueue(1, 2),
        "priority": await add.options(priority=5).enqueue(1, 2),
        "headers": await add.options(headers={"tenant": "x"}).enqueue(1, 2),
        "expires": await add.options(expires=60).enqueue(1, 2),
        "eta": await add.options(eta=soon).enqueue(1, 2),
        "countdown": await add.options(countdown=1).enqueue(1, 2),
    }
    for job in jobs.values():
        assert await job.result(timeout=45) == 3
    assert time.monotonic() - began > 0.9
    seen = {}
    for line in worker.output.splitlines():
        if '{"id"' in line:
            one = json.loads(line[line.index("{") :])
            seen[one["id"]] = one
    assert jobs["id"].id == "chosen-by-me"
    assert seen[jobs["queue"].id]["queue"] == "other"
    assert seen[jobs["plain"].id]["queue"] == "main"
    assert seen[jobs["priority"].id]["priority"] == 5
    assert seen[jobs["headers"].id]["tenant"] == "x"
    assert seen[jobs["expires"].id]["expires"]
    assert seen[jobs["eta"].id]["eta"]
    assert seen[jobs["countdown"].id]["eta"]


async def check_canvases(app: Quart) -> None:
    """Each kind, with what it gives."""
    single: Any = await enqueue(add.s(1, 2))
    chained: Any = await enqueue(chain(add.s(1, 2), add.s(3), add.s(4)))
    together: Any = await enqueue(group(add.s(n, n) for n in range(3)))
    summed: Any = await enqueue(chord([add.s(1, 1), add.s(2, 2)], total.s()))
    both: Any = await enqueue(chain(group([add.s(1, 1), add.s(2, 2)]), total.s(), add.s(1)))
    assert await single.result(timeout=45) == 3
    assert await chained.result(timeout=45) == 10
    assert await together.result(timeout=45) == [0, 2, 4]
    assert await summed.result(timeout=45) == 6
    assert await both.result(timeout=45) == 7
    assert parts_of(app).watcher.waiters == 0


async def test_every_option_and_canvas_arrives_over_redis(redis_url: str) -> None:
    """With queues, routes, priorities and prefixes of Celery's own configuration."""
    with stock_worker(redis_url, redis_url, CONF) as worker:
        async with enqueuing(redis_url, CONF) as app:
            worker.wait_for_output(r"ready\.|celery@")
            await check_options(worker)
            await check_canvases(app)


async def test_a_stock_worker_reads_what_is_annotated(redis_url: str) -> None:
    """An object as a dict; dates and the like as ever, from Python and from HTTP."""
    with stock_worker(redis_url, redis_url, CONF) as worker:
        conf = {**CONF, "task_routes": {}}
        async with enqueuing(redis_url, conf, "tests.support.typed_tasks") as app:
            worker.wait_for_output(r"ready\.|celery@")
            now, ident = datetime.now(UTC), UUID(int=1)
            items = [typed.Item("pen", Decimal("1.50")), typed.Item("ink", Decimal("2.25"))]
            summed = await typed.total.enqueue(typed.Order(ident, now, items, b"\xff"))
            assert await summed.result(timeout=45) == Decimal("3.75")
            simple = await typed.simple.enqueue(
                now, now.date(), ident, Decimal(1), b"\xff", typed.Size.SMALL
            )
            names = ["datetime", "date", "UUID", "Decimal", "bytes", "str"]
            assert await simple.result(timeout=45) == names
            arguments = {
                "at": now.isoformat(),
                "day": "2026-01-02",
                "ident": str(ident),
                "price": "1.5",
                "raw": "/w==",
                "size": "s",
            }
            posted = await app.test_client().post("/tasks/typed.simple", json=arguments)
            found = await parts_of(app).watcher.wait((await posted.get_json())["id"], 20)
            assert found.result == names


async def test_an_expired_job_is_not_run(redis_url: str) -> None:
    """Celery's worker revokes it."""
    async with enqueuing(redis_url, CONF) as app:
        job = await add.options(expires=0.01).enqueue(1, 2)
        with stock_worker(redis_url, redis_url, CONF):
            assert (await parts_of(app).watcher.wait(job.id, 45)).state == "REVOKED"


async def enqueue_late() -> Job[int] | None:
    """The job, once it is accepted: while RabbitMQ is known to be away, it is not."""
    with suppress(BrokerUnavailableError):
        return await add.options(job_id="late").enqueue(1, 2)
    return None


@pytest.mark.rabbitmq
@pytest.mark.timeout(120)
@needs_rabbitmq
async def test_every_option_and_canvas_arrives_over_rabbitmq(
    redis_url: str, tmp_path: Path, valkey: Valkey
) -> None:
    """With the same records, ids and deadline; a broker that is silent is an error in time.

    A queue that was deleted, while we were connected, is declared again: nothing is accepted that
    no queue has.
    """
    conf = {
        "task_default_queue": "main",
        "task_default_queue_type": "classic",  # as stock Celery declares its queues
        "task_routes": {"sample.total": {"queue": "sums"}},
    }
    with rabbitmq(tmp_path) as (server, broker):
        async with enqueuing(redis_url, {**conf, "broker_url": broker}) as app:
            early = await add.options(job_id="early").enqueue(1, 2)
            await add.options(job_id="early").enqueue(1, 2)
            assert (await parts_of(app).store.get("early")).state == "QUEUED"
            with stock_worker(broker, redis_url, conf) as worker:
                assert await early.result(timeout=45) == 3
                await check_options(worker)
                assert worker.output.count('"id": "early"') == 1
            with get_celery(app).connection_for_write() as connection:
                channel: Any = connection.default_channel
                for queue in "main", "sums":
                    channel.queue_delete(queue)
            anew = [await add.options(job_id=f"anew{number}").enqueue(1, 2) for number in range(8)]
            with stock_worker(broker, redis_url, conf):
                assert [await job.result(timeout=45) for job in anew] == [3] * 8
            os.killpg(server.pid, signal.SIGSTOP)
            limit = 1.5 * parts_of(app).settings.enqueue_timeout
            with pytest.raises(BrokerUnavailableError, match="RabbitMQ is not available"):
                async with asyncio.timeout(limit):  # which would raise another error
                    await add.options(job_id="late").enqueue(1, 2)
            os.killpg(server.pid, signal.SIGCONT)
            with stock_worker(broker, redis_url, conf):
                late = await wait_until_async(enqueue_late, description="RabbitMQ is back")
                assert late is not None
                assert await late.result(timeout=45) == 3
