"""A group sent by Celery's own means costs no subscription until somebody waits for it."""

import asyncio

from celery import group
from redis import Redis

from service.tasks.demo import my_add
from service.testing import JobRunner


async def test_a_group_subscribes_when_it_is_waited_for(
    jobs: JobRunner, jobs_redis_url: str
) -> None:
    """And `get` returns all of the values in order; Celery puts nested groups into one."""
    async with jobs.app.app_context():
        inner = group(my_add.s(1, 2), my_add.s(3, 4))
        result = group(my_add.s(0, 0), inner).apply_async()
    with Redis.from_url(jobs_redis_url) as redis:
        assert redis.pubsub_channels("celery-task-meta-*") == []
        async with jobs.working():
            assert await asyncio.to_thread(result.get, timeout=45) == [0, 3, 7]
        assert redis.pubsub_channels("celery-task-meta-*") == []
