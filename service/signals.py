"""The signals by which the service says that a job changed, and how a worker is.

Both are blinker signals, sent with the Quart app as the sender. A feature such as the dashboard
connects to them; nothing is built or sent while no receiver is connected.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from blinker import ANY, Signal

_RECEIVERS: Final = "service.job_changed"
_ReceiverT = TypeVar("_ReceiverT", bound=Callable[..., Any])


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


class JobSignal(Signal):
    """A signal that is sent for every job, at the cost of calling its receivers.

    `Signal.send` looks for the receivers of a sender each time, and asks whether each is a
    coroutine function, which costs more than the receivers do. This one keeps them with the app
    until one is connected or disconnected.
    """

    version = 0  # of the set of receivers

    def connect(self, receiver: _ReceiverT, sender: Any = ANY, weak: bool = True) -> _ReceiverT:
        """As every signal; a receiver lives as long as an app that has sent it an event."""
        super().connect(receiver, sender, weak)
        self.version += 1
        return receiver

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """As every signal."""
        super().disconnect(receiver, sender)
        self.version += 1

    def send_event(self, app: Any, event: JobEvent) -> None:
        """Call the app's receivers; look whether there are `receivers` before making the event."""
        version, receivers = app.extensions.get(_RECEIVERS, (-1, ()))
        if version != self.version:
            version, receivers = self.version, tuple(self.receivers_for(app))
            app.extensions[_RECEIVERS] = (version, receivers)
        for receiver in receivers:
            receiver(app, event=event)


# Sent with `event=JobEvent` when a job was accepted, is to run again, or has ended, in the thread
# in which that became known. A start is sent once the job has run for a while: most jobs have ended
# before anybody could have seen them run.
job_changed: Final = JobSignal("job-changed")
# Sent once a second with `worker=<its name>` and `status=WorkerStatus`, or None when it leaves.
worker_reported: Final = Signal("worker-reported")


def send_queued(app: Any, job_id: str, task: str) -> None:
    """Say that a job was accepted."""
    if job_changed.receivers:
        at = time.time()
        job_changed.send_event(app, JobEvent(job_id, "QUEUED", task, at, None, at))


def seconds_since_epoch(text: object) -> float | None:
    """The moment of an ISO time, as events have it; None if the text is not such a time."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
