"""What a worker's own port tells Prometheus; under prefork the parent tells it of its children."""

from collections.abc import AsyncIterator

import httpx
import pytest
from quart import Quart

from tests.support.metrics import Scraped, scraped
from tests.support.sample_tasks import add, enqueue_another, raise_error, retry_once
from tests.support.serving import serving_app
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

pytestmark = pytest.mark.parametrize("shared_worker", ["asyncio", "prefork"], indirect=True)


@pytest.fixture
async def app(shared_worker: Worker) -> AsyncIterator[Quart]:
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        yield app


def of(worker: Worker) -> Scraped:
    return scraped(httpx.get(worker.metrics_url, timeout=30).text)


def number(found: Scraped, sample: str, task: str, **labels: str) -> float:
    return found.value(sample, task=task, **labels) or 0.0


async def test_a_workers_jobs_are_counted(app: Quart, shared_worker: Worker) -> None:
    """By task and state, with their times; and what they enqueue themselves."""
    before = of(shared_worker)
    for _ in range(3):
        await add.enqueue(1, 2)
    await raise_error.enqueue("ValueError")
    await retry_once.enqueue("metrics", 0.0)
    await enqueue_another.enqueue()
    expected: list[tuple[str, str, float, dict[str, str]]] = [
        ("jobs_ended_total", add.name, 4, {"state": "SUCCESS"}),
        ("jobs_run_seconds_count", add.name, 4, {}),
        ("jobs_wait_seconds_count", add.name, 4, {}),
        ("jobs_ended_total", raise_error.name, 1, {"state": "FAILURE"}),
        ("jobs_retried_total", retry_once.name, 1, {}),
        ("jobs_ended_total", retry_once.name, 1, {"state": "SUCCESS"}),
        ("jobs_enqueued_total", add.name, 1, {}),
    ]

    def increases() -> list[float]:
        now = of(shared_worker)
        return [
            number(now, sample, task, **labels) - number(before, sample, task, **labels)
            for sample, task, _, labels in expected
        ]

    wanted = [each for _, _, each, _ in expected]
    await wait_until_async(
        lambda: increases() == wanted, timeout=30, description=f"{wanted} are counted"
    )


async def test_how_a_worker_is(app: Quart, shared_worker: Worker) -> None:
    """Its slots and its lease, as it reports them every second; of queues the web side tells."""

    def is_told() -> bool:
        return of(shared_worker).value("jobs_capacity") is not None

    await wait_until_async(is_told, timeout=30, description="the worker reports")
    found = of(shared_worker)
    assert found.value("jobs_capacity") == (600 if shared_worker.pool == "asyncio" else 2)
    assert "jobs_queue_length" not in found.families
    if shared_worker.pool == "asyncio":
        assert (found.value("jobs_event_loop_lag_seconds_count") or 0) > 0
