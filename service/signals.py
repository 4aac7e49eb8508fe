"""The signals by which the service says that a job changed, and how a worker is.

Both are blinker signals, sent with the Quart app as the sender. A feature such as the dashboard
connects to them; nothing is built or sent while no receiver is connected.
"""

import time
from datetime import datetime
from typing import Any, Final

import msgspec
from blinker import Signal


class JobEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A job's new state. Times are seconds since 1970; None is not known.

    The dashboard stores events in Redis as JSON arrays of these fields: new fields go to the end,
    with a default. Without `gc` the garbage collector passes events over: there may be thousands,
    and none can be in a cycle.
    """

    id: str
    state: str
    task: str
    at: float  # when the state changed
    worker: str | None = None
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    retries: int = 0

    @property
    def ran_for(self) -> float | None:
        """Seconds that the job ran; None while it runs, and if it never did."""
        if self.finished_at is None or self.started_at is None:
            return None
        return max(0.0, self.finished_at - self.started_at)


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker reports of itself. Times are seconds, `started_at` since 1970."""

    pool: str
    capacity: int
    running: int
    deliveries: dict[str, int] = msgspec.field(name="held")  # by queue, running jobs included
    queues: list[str]
    started_at: float
    lease_age: float | None = None  # since its leases were last renewed; None without leases


# Sent with `event=JobEvent` when a job was accepted, is to run again, or has ended, in the thread
# in which that became known. A start is sent once the job has run for a while: most jobs have ended
# before anybody could have seen them run.
job_changed: Final = Signal("job-changed")
# Sent once a second with `worker=<its name>` and `status=WorkerStatus`, or None when it leaves.
worker_reported: Final = Signal("worker-reported")


def send_job_changed(app: Any, event: JobEvent) -> None:
    """Say that a job changed; check `job_changed.receivers` before building the event.

    `Signal.send` would ask of every receiver, for every job, whether it is a coroutine function.
    """
    for receiver in job_changed.receivers_for(app):
        receiver(app, event=event)


def send_queued(app: Any, job_id: str, task: str) -> None:
    """Say that a job was accepted."""
    if job_changed.receivers:
        at = time.time()
        send_job_changed(app, JobEvent(job_id, "QUEUED", task, at, queued_at=at))


def seconds_since_epoch(text: object) -> float | None:
    """The moment of an ISO time, as events have it; None if the text is not such a time."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
