"""A stock Celery worker runs what is enqueued here, with every option, over Redis and RabbitMQ."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from quart import Quart

from service import create_app, enqueue
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.sample_tasks import add, total
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

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
async def enqueuing(redis_url: str, conf: dict[str, Any]) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
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
        assert await job.result(timeout=20) == 3
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
    assert await single.result(timeout=20) == 3
    assert await chained.result(timeout=20) == 10
    assert await together.result(timeout=20) == [0, 2, 4]
    assert await summed.result(timeout=20) == 6
    assert await both.result(timeout=20) == 7
    assert parts_of(app).watcher.waiters == 0


async def test_every_option_and_canvas_arrives_over_redis(redis_url: str) -> None:
    """With queues, routes, priorities and prefixes of Celery's own configuration."""
    with stock_worker(redis_url, redis_url, CONF) as worker:
        async with enqueuing(redis_url, CONF) as app:
            worker.wait_for_output(r"ready\.|celery@")
            await check_options(worker)
            await check_canvases(app)


async def test_an_expired_job_is_not_run(redis_url: str) -> None:
    """Celery's worker revokes it."""
    async with enqueuing(redis_url, CONF) as app:
        job = await add.options(expires=0.01).enqueue(1, 2)
        with stock_worker(redis_url, redis_url, CONF):
            assert (await parts_of(app).watcher.wait(job.id, 20)).state == "REVOKED"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[tuple[Process, str]]:
    """A RabbitMQ server of the test's own, and its address."""
    port, names_port = free_port(), str(free_port())
    env = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": names_port,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }
    binary = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    try:
        with Process([binary], env=env, cwd=folder, name="rabbitmq") as server:
            server.wait_for_output("completed with", timeout=50)
            yield server, f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        # Erlang's name server leaves the process group. It ends only when no node is known to it.
        end = ["epmd", "-port", names_port, "-kill"]
        wait_until(
            lambda: b"Killed" in subprocess.run(end, capture_output=True, check=False).stdout,
            description="epmd is ended",
        )


@pytest.mark.rabbitmq
@pytest.mark.timeout(120)
@pytest.mark.skipif(
    shutil.which("rabbitmq-server") is None and not os.environ.get("CI"),
    reason="rabbitmq-server is not installed",
)
async def test_every_option_and_canvas_arrives_over_rabbitmq(
    redis_url: str, tmp_path: Path, valkey: Valkey
) -> None:
    """With the same records, ids and deadline; a broker that is silent is an error in time."""
    conf = {
        "task_default_queue": "main",
        "task_routes": {"sample.total": {"queue": "sums"}},
    }
    with rabbitmq(tmp_path) as (server, broker):
        async with enqueuing(redis_url, {**conf, "broker_url": broker}) as app:
            early = await add.options(job_id="early").enqueue(1, 2)
            await add.options(job_id="early").enqueue(1, 2)
            assert (await parts_of(app).store.get("early")).state == "QUEUED"
            with stock_worker(broker, redis_url, conf) as worker:
                assert await early.result(timeout=20) == 3
                await check_options(worker)
                assert worker.output.count('"id": "early"') == 1
            os.killpg(server.pid, signal.SIGSTOP)
            limit = 1.5 * parts_of(app).settings.enqueue_timeout
            with pytest.raises(BrokerUnavailableError):
                async with asyncio.timeout(limit):  # which would raise another error
                    await add.options(job_id="late").enqueue(1, 2)
            os.killpg(server.pid, signal.SIGCONT)
            with stock_worker(broker, redis_url, conf):
                job = await add.options(job_id="late").enqueue(1, 2)
                assert await job.result(timeout=20) == 3
