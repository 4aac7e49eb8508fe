"""A small Celery app, on the stock transport or ours, that knows the tasks of the fault tests."""

import json
import os
import signal
import time

from celery import Celery

from tests.support.noting import Run

app = Celery("broker_app", set_as_current=True)
_OPTIONS = json.loads(os.environ.get("BROKER_OPTIONS", "{}"))
app.conf.update(
    broker_url=os.environ.get("BROKER_URL", "redis://127.0.0.1:6379/0"),
    result_backend=os.environ.get("RESULT_URL", os.environ.get("BROKER_URL", "redis://")),
    broker_transport_options=_OPTIONS,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_deduplicate_successful_tasks=True,
    result_backend_always_retry=True,
    task_track_started=True,
)
# What a test wants otherwise.
app.conf.update(json.loads(os.environ.get("BROKER_CONF", "{}")))
if transport := os.environ.get("BROKER_TRANSPORT"):
    app.conf.broker_transport = transport


@app.task(name="faults.work")
def work(label: str, seconds: float = 0) -> str:
    """Take a while."""
    run = Run(label)
    time.sleep(seconds)
    run.end()
    return label


@app.task(name="faults.noop")
def noop() -> None:
    """Nothing, as fast as possible."""


@app.task(name="faults.die")
def die(label: str) -> None:
    """Kill the process that runs it."""
    Run(label)
    os.kill(os.getpid(), signal.SIGKILL)
