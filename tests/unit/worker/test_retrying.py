"""A retry that cannot be sent, as Redis is away and the worker has to stop."""

from typing import Any

import pytest
from celery.exceptions import Reject
from celery.worker import state
from kombu.utils.uuid import uuid

from service import create_app, get_celery
from tests.support.ports import free_port
from tests.support.sample_tasks import retry_once


def test_its_job_goes_back_to_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would reject it, which makes a dead letter of it."""
    monkeypatch.setattr(state, "should_stop", 0)  # by SIGTERM
    settings = {
        "SERVICE_REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
    }
    task: Any = get_celery(create_app(settings)).tasks[retry_once.name]
    job = {"id": uuid(), "args": ("a line", 0), "kwargs": {}, "retries": 0}
    task.push_request(**job, called_directly=False, delivery_info={})
    try:
        with pytest.raises(Reject) as info:
            task.retry(countdown=0)
    finally:
        task.pop_request()
    reject: Any = info.value
    assert reject.requeue
