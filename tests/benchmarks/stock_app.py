"""The same tasks in a plain Celery app, acknowledged when they are done, as ours are."""

import os
import time

from celery import Celery

app = Celery(
    "stock", broker=os.environ["SERVICE_REDIS_URL"], backend=os.environ["SERVICE_REDIS_URL"]
)
app.conf.update(task_acks_late=True, task_track_started=True)


@app.task(name="bench.noop")
def noop() -> int:
    return 1


@app.task(name="bench.nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)
