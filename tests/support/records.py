"""Writes records as a worker would, for tests of those who read them; and moves time for jobs."""

import json
from typing import Any

from redis import Redis

from service.redis.keys import RECORD
from tests.support.wait import wait_until


def record(job_id: str, state: str, **more: object) -> bytes:
    """A record in the form in which Celery stores it."""
    return json.dumps({"status": state, "result": None, "task_id": job_id, **more}).encode()


def publish(redis: Redis, job_id: str, state: str, **more: object) -> None:
    """Store a record and tell whoever waits for it, as Celery's Redis backend does."""
    key, stored = RECORD + job_id, record(job_id, state, **more)
    redis.set(key, stored, ex=60)
    redis.publish(key, stored)


def let_be_due(redis: Redis, queue: str = "celery") -> None:
    """Have the job that waits for its time be due; first wait until a worker has put it there."""
    key = f"{queue}.scheduled"
    (message,) = wait_until(lambda: _all(redis, key), description="a job waits for its time")
    redis.zadd(key, {message: 1})


def _all(redis: Redis, key: str) -> Any:
    return redis.zrange(key, 0, -1)
