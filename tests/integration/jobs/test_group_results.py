"""A group sent by Celery's own means costs no subscription until somebody waits for it."""

import asyncio

import pytest
from celery import group
from redis import Redis

from service.tasks.demo import my_add
from tests.support.serving import serving_app
from tests.support.workers import Worker


@pytest.mark.parametrize("shared_worker", ["asyncio"], indirect=True)
async def test_a_group_subscribes_when_it_is_waited_for(shared_worker: Worker) -> None:
    """And `get` returns all of the values in order; Celery puts nested groups into one."""
    async with serving_app(shared_worker, "tests.support.sample_tasks"):
        inner = group(my_add.s(1, 2), my_add.s(3, 4))
        result = group(my_add.s(0, 0), inner).apply_async()
        with Redis.from_url(shared_worker.redis_url) as redis:
            assert redis.pubsub_channels("celery-task-meta-*") == []
            assert await asyncio.to_thread(result.get, timeout=45) == [0, 3, 7]
            assert redis.pubsub_channels("celery-task-meta-*") == []
