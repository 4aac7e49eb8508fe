"""What the service tells whoever listens: that a job changed, and how a worker is.

Both are blinker signals, sent with the Quart app as the sender. A feature such as the dashboard
connects to them; nothing is built or sent while no receiver is connected.
"""

import time
from typing import Any, Final

import msgspec
from blinker import Signal


class JobEvent(msgspec.Struct, frozen=True, gc=False):
    """A job's new state.

    `at` is when it changed, in seconds since 1970; `queued_at` and `started_at` are ISO times as
    records have them. Without `gc` the collector passes events over: there may be thousands, and
    none can be in a cycle.
    """

    id: str
    state: str
    task: str
    at: float
    worker: str | None = None
    queued_at: str | None = None
    started_at: str | None = None
    retries: int = 0


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker reports of itself. Times are seconds, `started_at` since 1970."""

    pool: str
    capacity: int
    running: int
    held: dict[str, int]  # jobs held, running ones included, by queue
    queues: list[str]
    started_at: float
    lease_age: float | None = None  # since its leases were last renewed; None without leases


# Sent with `event=JobEvent` when a job was accepted, is to run again, or has ended, in the thread
# in which that became known. A start is sent once the job has run for a while: most jobs have ended
# before anybody could have seen them run.
job_changed: Final = Signal("job-changed")
# Sent once a second with `worker=<its name>` and `status=WorkerStatus`, or None when it leaves.
worker_reported: Final = Signal("worker-reported")


def send_queued(app: Any, job_id: str, task: str) -> None:
    """Say that a job was accepted."""
    if job_changed.receivers:
        event = JobEvent(job_id, "QUEUED", task, time.time())
        # `send` asks each time whether each receiver is a coroutine function, for microseconds.
        for receiver in job_changed.receivers_for(app):
            receiver(app, event=event)
