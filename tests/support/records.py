"""Writes records as a worker would, for tests of those who read them."""

import json

from redis import Redis

from service.redis.keys import RECORD


def record(job_id: str, state: str, **more: object) -> bytes:
    """A record in the form in which Celery stores it."""
    return json.dumps({"status": state, "result": None, "task_id": job_id, **more}).encode()


def publish(redis: Redis, job_id: str, state: str, **more: object) -> None:
    """Store a record and tell whoever waits for it, as Celery's Redis backend does."""
    key, stored = RECORD + job_id, record(job_id, state, **more)
    redis.set(key, stored, ex=60)
    redis.publish(key, stored)
