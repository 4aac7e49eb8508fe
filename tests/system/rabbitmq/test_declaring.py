"""RabbitMQ has all that jobs need, whoever comes first."""

from pathlib import Path

import pytest
from kombu import Connection, Queue

from service.errors import BrokerUnavailableError
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.sample_tasks import add, leave_note, retry_once
from tests.support.serving import serving_app
from tests.support.workers import Worker, worker_process
from tests.system.rabbitmq.conftest import Broker

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]

MODULES = "tests.support.sample_tasks"


async def test_jobs_that_are_not_due_keep_no_job_from_running(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """RabbitMQ has them until they are due, also those that came before there was a worker.

    A retry keeps its queue, and what was delayed once can be delayed again.
    """
    process = worker_process(
        "asyncio", redis_url, tmp_path, "-Q", f"{broker.queue},slow", **broker.settings
    )
    worker = Worker("asyncio", process, redis_url, tmp_path)
    async with serving_app(worker, MODULES, **broker.settings):
        slow = retry_once.options(queue="slow", countdown=3)
        early = await leave_note.options(countdown=2).enqueue("early")
        retried = await slow.enqueue("retried", 3)
        for _ in range(40):
            await add.options(countdown=3600).enqueue(1, 2)
        with process:
            soon = await leave_note.options(countdown=0.5).enqueue("soon")
            later = await leave_note.options(countdown=2).enqueue("later")
            due = await leave_note.enqueue("due")
            for job in (due, soon, early, later, retried):
                await job.result(timeout=30)
    assert [line for line in worker.notes if line.startswith("retried")] == [
        "retried 0",
        "retried 1",
    ]


async def test_a_queue_that_exists_otherwise_is_told_in_a_sentence(
    broker: Broker, redis_url: str, tmp_path: Path
) -> None:
    """A classic queue, as Celery declares it: whoever enqueues and a worker say what to do."""
    with Connection(broker.url) as connection:
        Queue(broker.queue)(connection.default_channel).declare()
    told = rf"queue '{broker.queue}'.*TASK_DEFAULT_QUEUE_TYPE=classic"
    process = worker_process("asyncio", redis_url, tmp_path, **broker.settings)
    worker = Worker("asyncio", process, redis_url, tmp_path)
    async with serving_app(worker, MODULES, **broker.settings):
        with pytest.raises(BrokerUnavailableError, match=told):
            await add.enqueue(1, 2)
    with process:
        process.wait_for_output(rf"This worker cannot take jobs: .*{told}")
        assert process.wait() == 1
        assert "Traceback" not in process.output
    classic = {**broker.settings, "SERVICE_CELERY__TASK_DEFAULT_QUEUE_TYPE": "classic"}
    async with serving_app(worker, MODULES, **classic):
        with worker_process("asyncio", redis_url, tmp_path, **classic):
            assert await (await add.enqueue(1, 2)).result(timeout=30) == 3
