"""How much waits in RabbitMQ's queues is known to the dashboard, the metrics and the limits."""

import asyncio
import json
import time
from typing import Any

import pytest
from amqp import Message
from click.testing import CliRunner
from quart.cli import ScriptInfo

from service import create_app
from service.cli.queues import queue_lengths
from service.dashboard.extension import dashboard_of
from service.errors import QueueFullError
from service.jobs.sending.message import Conditions
from service.parts import parts_of
from service.signals import JobEvent
from tests.integration.rabbitmq.conftest import Broker, Serving
from tests.support.metrics import scraped
from tests.support.rabbitmq import needs_rabbitmq
from tests.support.sample_tasks import add
from tests.support.site import TOKEN
from tests.support.wait import wait_until, wait_until_async

pytestmark = [pytest.mark.rabbitmq, needs_rabbitmq]

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ADMIN = {
    "SERVICE_ADMIN_TOKEN": TOKEN,
    "SERVICE_METRICS": "on",
    "SERVICE_ENQUEUE_TIMEOUT": "20",
}


async def test_a_full_queue_takes_no_more_by_http(broker: Broker, serving: Serving) -> None:
    """What this process has sent since it has looked counts, too; an earlier job is found again."""
    limits = {"SERVICE_MAX_QUEUE": "2", "SERVICE_LIMITS": "off"}
    async with serving(**ADMIN, **limits) as app:
        client = app.test_client()

        async def start(key: str) -> int:
            answer = await client.post(
                "/tasks/demo.my_add", json={"a": 1, "b": 2}, headers={"Idempotency-Key": key}
            )
            return answer.status_code

        assert [await start(key) for key in "abcd"] == [202, 202, 429, 429]
        assert await start("a") in {200, 202}
        await add.enqueue(1, 2)  # code is not limited
        for _ in range(3):
            broker.take()
        await wait_until_async(lambda: _is_accepted(start), description="there is room again")


async def test_requests_at_the_same_moment_do_not_exceed_the_limit(
    broker: Broker, serving: Serving
) -> None:
    """What this process is sending counts as well; what could not be sent counts no more."""
    conditions = Conditions(limit=5)
    async with serving(**ADMIN) as app:
        enqueuer = parts_of(app).enqueuer
        await add.enqueue(1, 2)
        jobs = (enqueuer.enqueue_if(add.name, (1, 2), {}, conditions) for _ in range(20))
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert sum(isinstance(outcome, QueueFullError) for outcome in outcomes) == 16
        broker.with_channel(lambda channel: channel.queue_purge(broker.queue))
        publisher: Any = await enqueuer.publisher()
        assert publisher._counts._sending == {}


async def _is_accepted(start: Any) -> bool:
    return bool(await start("e") == 202)


async def test_the_dashboard_and_the_metrics_tell_what_is_ready(
    broker: Broker, serving: Serving
) -> None:
    """With the consumers. What RabbitMQ does not tell is called unknown, and is no metric."""
    async with serving(**ADMIN) as app:
        jobs = [await add.enqueue(1, 2) for _ in range(3)]
        publisher = await parts_of(app).enqueuer.publisher()
        counts = await publisher.queue_counts([broker.queue, "nobody's"])
        assert counts == {broker.queue: (3, 0), "nobody's": (0, 0)}
        client = app.test_client()
        text = await (await client.get("/metrics", headers=BEARER)).get_data(as_text=True)
        found = scraped(text)
        assert found.value("jobs_queue_length", queue=broker.queue) == 3
        assert found.value("jobs_queue_consumers", queue=broker.queue) == 0
        assert found.value("jobs_queue_scheduled", queue=broker.queue) is None
        answer = await client.get(f"/dashboard/queues?queue={broker.queue}", headers=BEARER)
        page = await answer.get_data(as_text=True)
        assert "<dt>Waiting</dt><dd>3 " in page
        assert "<dt>Scheduled</dt><dd>unknown" in page
        headers = {**BEARER, "Accept": "text/html"}
        page = await (await client.get(f"/result/{jobs[0].id}", headers=headers)).get_data(True)
        assert f"No running worker takes jobs from the queue {broker.queue}." in page
        now, recorder = time.time(), dashboard_of(app).recorder
        recorder.record(JobEvent("x", "SUCCESS", "demo.my_add", now, None, now, now, now))
        await asyncio.to_thread(recorder.report)
        dashboard_of(app).reader.expire()
        page = await (await client.get("/dashboard", headers=BEARER)).get_data(as_text=True)
        tasks = page.partition('id="tasks-title"')[2].partition("</table>")[0]
        assert "demo.my_add" in tasks
        assert "Pause…" not in tasks  # it would lead to the sentence that says why not


async def test_what_cannot_be_asked_is_unknown(broker: Broker, serving: Serving) -> None:
    """And no reason to refuse a job."""
    async with serving(SERVICE_ENQUEUE_TIMEOUT="1") as app:
        publisher = await parts_of(app).enqueuer.publisher()
        with broker.frozen():
            assert await publisher.queue_counts([broker.queue]) == {}


def test_the_command_line_tells_it_as_well(broker: Broker, redis_url: str) -> None:
    """Of a queue that nobody has declared, too; and what RabbitMQ does not tell is unknown."""

    def declare_and_publish(channel: Any) -> None:
        channel.queue_declare(broker.queue, durable=True, auto_delete=False)
        channel.basic_publish(Message("a job"), routing_key=broker.queue)

    broker.with_channel(declare_and_publish)
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__BROKER_URL": broker.url}
    info = ScriptInfo(create_app=lambda: create_app(settings))

    def told() -> list[dict[str, Any]]:  # on a loop of its own each time
        arguments = ["--json", broker.queue, "zero"]
        run = CliRunner().invoke(queue_lengths, arguments, obj=info, catch_exceptions=False)
        found: list[dict[str, Any]] = json.loads(run.stdout)
        return found

    unknown = {"scheduled": None, "paused": None, "consumers": 0}
    expected = [
        {"name": broker.queue, "waiting": 1, **unknown},
        {"name": "zero", "waiting": 0, **unknown},
    ]
    wait_until(lambda: told() == expected, description="the message is counted")
