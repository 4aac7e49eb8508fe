"""The signals by which the service says that a job changed, and how a worker is.

A feature such as the dashboard connects to those of its app, which are `parts_of(app).signals`;
nothing is built or sent while no receiver is connected. Incidents are counted for the process.
"""

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any, Final, Generic, ParamSpec

import msgspec

P = ParamSpec("P")

DROPPED: Final = "DROPPED"  # in place of a state: an operator has had the job forgotten


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
    queue: str | None = None
    error: str = ""  # of a failure or a retry: the type, a colon and the message, on one line
    place: str = ""  # of a failure, where in the user's code: `shop/mail.py:send:12`
    due_at: float | None = None  # of an attempt that was not to begin before
    tags: tuple[str, ...] = ()
    group: str | None = None  # the id of the group that the job was sent in

    @property
    def error_type(self) -> str:
        """The type of the error, such as `ValueError`; empty without an error."""
        return self.error.partition(":")[0]

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


class AppSignal(Generic[P]):
    """Calls the receivers that were connected to it, in turn; one belongs to one app.

    It is sent for every job. blinker's `send` finds the receivers anew each time, through weak
    references, and costs more than twenty times what calling them does.
    """

    def __init__(self) -> None:
        self.receivers: list[Callable[P, object]] = []

    def connect(self, receiver: Callable[P, object]) -> None:
        """Have the receiver called from now on."""
        self.receivers.append(receiver)

    def disconnect(self, receiver: Callable[P, object]) -> None:
        """Have it called no more."""
        self.receivers.remove(receiver)

    def send(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the receivers in the caller's thread; what one raises reaches the caller."""
        for receiver in self.receivers:
            receiver(*args, **kwargs)


class Signals:
    """The signals of one app.

    `job_changed` is sent when a job was accepted, is to run again, or has ended, in the thread in
    which that became known. A start is sent once the job has run for a while: most jobs have ended
    before anybody could have seen them run. `worker_reported` is sent once a second with a worker's
    name and its status, or None when it leaves.
    """

    def __init__(self) -> None:
        self.job_changed: AppSignal[[JobEvent]] = AppSignal()
        self.worker_reported: AppSignal[[str, WorkerStatus | None]] = AppSignal()

    def send_queued(
        self,
        job_id: str,
        task: str,
        queue: str = "",
        tags: tuple[str, ...] = (),
        group: str | None = None,
    ) -> None:
        """Say that a job was accepted, and in which queue it waits, where that is known."""
        if self.job_changed.receivers:
            at = time.time()
            queued = JobEvent(
                job_id,
                "QUEUED",
                task,
                at,
                queued_at=at,
                queue=queue or None,
                tags=tags,
                group=group,
            )
            self.job_changed.send(queued)


class Incident(Enum):
    """What seldom happens, and is counted for whoever asks."""

    LEASE_LOST = "a lease was lost while its job ran"
    RECOVERED = "a job of a worker that was gone was put back"
    BURIED = "a message was made a dead letter"
    REDIS_ERROR = "a call of Redis failed"
    REFUSED = "a limit, which is the label, refused a request"


# Of the process, as leases and connections are, which outlive the apps that use them.
_incidents: Final[Counter[tuple[Incident, str]]] = Counter()


def note_incident(incident: Incident, label: str = "") -> None:
    """Count an incident. From any thread; labels must be few."""
    _incidents[incident, label] += 1


def incidents() -> Counter[tuple[Incident, str]]:
    """How often each has happened in this process, by its label."""
    return _incidents.copy()


def seconds_since_epoch(text: Any) -> float | None:
    """The moment of an ISO time, as events have it; None if the text is not such a time."""
    try:  # `suppress` would cost as much again, and each job asks several times
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
