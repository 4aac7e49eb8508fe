"""A job may run for longer than RabbitMQ's consumer_timeout."""

from pathlib import Path

import pytest

from tests.support.pool_tasks import wait_at_gate
from tests.support.rabbitmq import needs_rabbitmq, rabbitmq
from tests.support.sample_tasks import leave_note
from tests.support.serving import serving_app
from tests.support.wait import wait_until
from tests.support.workers import MODULES, Worker, worker_process
from tests.system.rabbitmq.conftest import Broker

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]


@pytest.mark.chaos
@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
async def test_a_job_that_outlives_the_timeout_runs_once(
    redis_url: str, tmp_path: Path, pool: str
) -> None:
    """The server closes the channel again and again, and delivers the job to both workers."""
    (tmp_path / "rabbitmq").mkdir()
    limits = {"consumer_timeout": 2000, "channel_tick_interval": 500}
    told = "than its consumer_timeout;"
    with rabbitmq(tmp_path / "rabbitmq", **limits) as (process, url):
        settings = {**Broker(process, url).settings, "SERVICE_MAX_DELIVERIES": "3"}
        env = {**settings, "SERVICE_TASK_MODULES": MODULES}
        first = worker_process(pool, redis_url, tmp_path, **env)
        other = worker_process(pool, redis_url, tmp_path, "-n", "other@%h", **env)
        worker = Worker(pool, first, redis_url, tmp_path)
        async with serving_app(worker, MODULES, **settings):
            with first:
                first.wait_for_output("RabbitMQ .* Set it in rabbitmq.conf")
                job = await wait_at_gate.enqueue("long")
                worker.wait_for_note(f"started {job.id}")
                with other:
                    wait_until(
                        lambda: sum(each.output.count(told) for each in (first, other)) > 4,
                        description="it was delivered more often than SERVICE_MAX_DELIVERIES",
                    )
                    await (await leave_note.enqueue("next")).result(timeout=45)
                    worker.open_gate("long")
                    assert await job.result(timeout=45) == "long"
                    wait_until(
                        lambda: any(
                            f"Job {job.id} is not run again" in each.output
                            for each in (first, other)
                        ),
                        description="the copy is acknowledged",
                    )
    assert worker.notes.count(f"started {job.id}") == 1
