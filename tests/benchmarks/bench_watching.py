"""What log lines, records, events and metrics cost a worker for a job that does nothing.

Run it with `python -m tests.benchmarks.bench_watching`. Each piece is run alone, many times, and
its best processor time counts, which other processes disturb least.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from typing import Any, Final

from celery.app import trace
from celery.app.defaults import DEFAULTS
from celery.app.task import Context
from celery.utils.log import ColorFormatter

from service import create_app, get_celery
from service.logs.json_lines import JsonFormatter
from service.metrics.counts import Counts
from service.results.record import _of_way, encode_job, encode_strictly
from service.tasks import demo
from service.worker import log_records
from service.worker.backend.events import event_of
from service.worker.loop.celery_stacks import on_stacks

CALLS: Final = 500
REPEATS: Final = 60
QUEUED_AT: Final = "2026-11-28T09:19:40.582000+00:00"
JOB_ID: Final = "15b1fa00-58ea-4004-87fd-8a0aa690e0aa"
FORMAT: Final = str(DEFAULTS["worker_log_format"])
EVENTS: Final = 1000  # that are counted at once


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """Processor time of one call."""
    return min(repeat(call, number=calls, repeat=REPEATS, timer=time.thread_time)) / calls * 1e6


def lines(factory: Any, formatter: logging.Formatter, level: str) -> float:
    """Of the two lines that Celery writes of a job: that it was received, and how it ended."""
    logging.setLogRecordFactory(factory)
    received, ended = logging.getLogger("celery.worker.strategy"), logging.getLogger(trace.__name__)
    with Path("/dev/null").open("w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(formatter)
        for logger in (received, ended):
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(level)
        about = {"id": JOB_ID, "name": "demo.my_add", "args": "(1, 2)", "kwargs": "{}", "eta": None}
        end = {**about, "return_value": "3", "runtime": 0.0012}

        def both() -> None:
            received.info(trace.LOG_RECEIVED, about, extra={"data": about})
            ended.info(trace.LOG_SUCCESS, end, extra={"data": end})

        return microseconds(both)


def of_attempts(request: Any, record: dict[str, Any]) -> float:
    """Of a record: to look for what attempts add to it, and to encode that, which is the queue."""
    without = {field: value for field, value in record.items() if field != "queue"}
    looked = microseconds(lambda: _of_way(request, JOB_ID, "SUCCESS"))
    encoded = microseconds(lambda: encode_strictly(record, 10**6))
    return looked + encoded - microseconds(lambda: encode_strictly(without, 10**6))


def main() -> None:
    """Print a line for each piece."""
    task: Any = get_celery(create_app()).tasks[demo.my_add.name]
    delivery = {"exchange": "", "routing_key": "celery"}
    request: Any = Context(
        id=JOB_ID, task=task.name, root_id=JOB_ID, queued_at=QUEUED_AT, started_at=QUEUED_AT,
        hostname="celery@here", delivery_info=delivery, retries=0,
    )  # fmt: skip
    nothing: dict[str, Any] = {"traceback": None, "children": [], "arguments": None, "extended": {}}

    def record() -> str:
        return encode_job(JOB_ID, "SUCCESS", 3, request=request, max_bytes=10**6, **nothing)

    counts, event = Counts(lambda _: True), event_of(JOB_ID, "SUCCESS", request, 3, None)

    def count() -> None:
        for _ in range(EVENTS):
            counts.record(event)
        counts.tasks()

    with on_stacks(task, request):
        stock = lines(logging.LogRecord, ColorFormatter(FORMAT, use_color=False), "INFO")
        text = lines(
            log_records.JobRecord, log_records.JobFormatter(FORMAT, use_color=False), "INFO"
        )
        as_json = lines(log_records.JsonJobRecord, JsonFormatter(), "INFO")
        none = lines(
            log_records.JobRecord, log_records.JobFormatter(FORMAT, use_color=False), "WARNING"
        )
    figures = {
        "Celery's two lines at INFO": stock,
        "the same with the job's figures": text,
        "the same as JSON": as_json,
        "the same at WARNING": none,
        "a record": microseconds(record),
        "of that, what attempts add to it": of_attempts(request, json.loads(record())),
        "an event for the dashboard and for metrics": microseconds(
            lambda: event_of(JOB_ID, "SUCCESS", request, 3, None)
        ),
        "to count it for metrics": microseconds(count, 5) / EVENTS,
    }
    for name, value in figures.items():
        sys.stdout.write(f"{name:45}{value:8.2f} µs\n")


if __name__ == "__main__":
    main()
