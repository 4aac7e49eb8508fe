"""An `async def` body that waits by Celery's own blocking calls does not stop the event loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart

from tests.support import sample_tasks as sample
from tests.support.serving import serving_app
from tests.support.workers import Worker

TIMEOUT = 45.0
POOLS = ["asyncio", "threads", "prefork"]  # under solo no other job runs meanwhile


@pytest.fixture
async def app(shared_worker: Worker) -> AsyncIterator[Quart]:
    async with serving_app(shared_worker, "tests.support.sample_tasks") as app:
        yield app


@pytest.mark.parametrize("shared_worker", POOLS, indirect=True)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("get", 3),
        ("error", "3"),
        ("chain's error", "3"),
        ("time-out", "The operation timed out."),
        ("group", 3),
        ("nested", [[1, 2], 0]),
        ("iterator", 3),
        ("control", True),
        ("event", None),
    ],
)
async def test_a_wait_lets_the_loop_turn(app: Quart, kind: str, expected: Any) -> None:
    """The job that is waited for may need this very loop: it would be waited for in vain."""
    job = await sample.wait_in_celerys_way.enqueue(kind)
    assert await job.result(timeout=TIMEOUT) == [expected, True]


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_many_that_wait_keep_none_from_sending(app: Quart) -> None:
    """As they would, if each wait took one of the threads for blocking calls."""
    jobs = [await sample.wait_for_another.enqueue(number) for number in range(60)]
    values = await asyncio.gather(*(job.result(timeout=2 * TIMEOUT) for job in jobs))
    assert values == [*range(60)]
