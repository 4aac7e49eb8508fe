"""A small Celery app on the leased transport; its tasks note what they do in a file."""

import json
import os
import signal
import time
from pathlib import Path

from celery import Celery

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


def note(what: str, label: str) -> None:
    """Append one line, atomically: it must survive a SIGKILL and an outage of Redis."""
    line = f"{what} {label} {os.getpid()} {time.time():.6f}\n"
    file = os.open(os.environ["BROKER_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@app.task
def work(label: str, seconds: float = 0) -> str:
    """Take a while."""
    note("start", label)
    time.sleep(seconds)
    note("end", label)
    return label


@app.task
def noop() -> None:
    """Nothing, as fast as possible."""


@app.task
def die(label: str) -> None:
    """Kill the process that runs it."""
    note("start", label)
    os.kill(os.getpid(), signal.SIGKILL)


def notes_path() -> Path:
    """Where the notes are."""
    return Path(os.environ["BROKER_NOTES"])
