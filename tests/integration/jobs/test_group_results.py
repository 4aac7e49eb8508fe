"""A group sent by Celery's own means costs no subscription until somebody waits for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from celery import group
from quart import Quart

from service import create_app
from service.tasks.demo import my_add
from tests.support.valkey import Valkey
from tests.support.workers import worker_process


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    async with app.test_app(), app.app_context():
        yield app


async def test_a_group_subscribes_when_it_is_waited_for(
    app: Quart, valkey: Valkey, redis_url: str, tmp_path: Path
) -> None:
    """And `get` returns all of the values in order; Celery puts nested groups into one."""
    inner = group(my_add.s(1, 2), my_add.s(3, 4))
    result = group(my_add.s(0, 0), inner).apply_async()
    with valkey.client() as redis:
        assert redis.pubsub_channels("celery-task-meta-*") == []
        with worker_process("asyncio", redis_url, tmp_path) as worker:
            worker.wait_for_output(r"ready\.")
            values = await asyncio.to_thread(result.get, timeout=10)
        assert values == [0, 3, 7]
        assert redis.pubsub_channels("celery-task-meta-*") == []
