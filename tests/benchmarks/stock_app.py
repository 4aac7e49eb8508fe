"""The same tasks in a plain Celery app, acknowledged when they are done, as ours are."""

import os
import time

from celery import Celery

_REDIS = os.environ["SERVICE_REDIS_URL"]
app = Celery("stock", broker=os.environ.get("BENCH_BROKER_URL", _REDIS), backend=_REDIS)
app.conf.update(
    task_acks_late=True,
    task_track_started=True,
    task_default_queue=os.environ.get("BENCH_QUEUE", "celery"),
    task_default_queue_type=os.environ.get("BENCH_QUEUE_TYPE", "classic"),
)


@app.task(name="bench.noop")
def noop() -> int:
    return 1


@app.task(name="bench.nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="bench.begun")
def begun() -> float:
    return time.time()
