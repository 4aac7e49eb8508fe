"""Records the messages that Celery would publish, instead of publishing them.

Celery's own code, with its routers and its canvas, thus decides what is sent, and never waits.
The message builder's producer would not do: the Kombu publisher needs the call itself, to publish
it in a thread and perhaps again under another id; the tasks of jobs that follow are read from
bodies that are not encoded yet; and a long canvas would hold the builder's lock for long.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from copy import deepcopy
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from service.jobs.celery.quorum import without_delay
from service.results.marks import OWNER, TAGS, tags_in

# What Celery gives `Producer.publish` beside the properties of a message.
_OPTIONS: Final = frozenset(
    (
        *("exchange", "routing_key", "serializer", "compression", "retry", "retry_policy"),
        *("delivery_mode", "declare", "headers", "timeout", "confirm_timeout"),
    )
)


def copied(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Headers of which nothing changes when somebody changes the given ones, also from within."""
    return {
        name: deepcopy(value) if isinstance(value, list | dict | set) else value
        for name, value in headers.items()
    }


class MadeMessage(Struct, frozen=True):
    """What Celery made of a call, before any receiver of its signals could change it."""

    headers: dict[str, Any]
    properties: dict[str, Any]


class PublishCall(Struct, frozen=True):
    """One call of `Producer.publish`; `job_id` is empty for an event of Celery's own."""

    job_id: str
    task: str
    queued_at: str
    body: Any
    options: dict[str, Any]
    made: MadeMessage | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """Those of its options that are the message's properties."""
        return {name: value for name, value in self.options.items() if name not in _OPTIONS}

    @property
    def as_made(self) -> "PublishCall":
        """The call as it would be if no receiver had changed its message."""
        if self.made is None:
            return self
        kept = {name: value for name, value in self.options.items() if name in _OPTIONS}
        options = {**kept, **self.made.properties, "headers": self.made.headers}
        return replace(self, options=options)

    @property
    def queue(self) -> str:
        """Where the job is to wait, as records and the events of jobs name it."""
        return without_delay(str(self.options.get("routing_key") or ""))

    @property
    def owner(self) -> str | None:
        """Whose job it is."""
        return (self.options.get("headers") or {}).get(OWNER)

    @property
    def tags(self) -> tuple[str, ...]:
        """The job's tags."""
        return tags_in((self.options.get("headers") or {}).get(TAGS))

    @property
    def group(self) -> str | None:
        """The id of the group that it is sent in."""
        return (self.options.get("headers") or {}).get("group")

    @property
    def as_queued(self) -> tuple[Any, ...]:
        """What `send_queued` takes of a job that was accepted."""
        return self.job_id, self.task, self.queue, self.tags, self.group

    @property
    def due_at(self) -> str | None:
        """When a scheduled job is due, as Celery's message says it."""
        eta = (self.options.get("headers") or {}).get("eta")
        return eta if isinstance(eta, str) else None


class PublishCapture:
    """Stands where Celery expects a Kombu producer. `owner` is that of all jobs, if it is given."""

    def __init__(self, owner: str | None = None) -> None:
        self.owner = owner
        self.calls: list[PublishCall] = []
        self.stores: list[Callable[[], object]] = []  # what the result backend is to do first
        self.made: MadeMessage | None = None  # of the next call
        self.serializer = None
        self.connection = self

    def publish(self, body: Any, **options: Any) -> None:
        """Record the call."""
        headers = options.get("headers") or {}
        options["retry"] = False  # the deadline is ours, and our caller may try again
        job_id, task, queued_at = (headers.get(name, "") for name in ("id", "task", "queued_at"))
        self.calls.append(PublishCall(job_id, task, queued_at, body, options, made=self.made))
        self.made = None

    def _reraise_as_library_errors(self) -> nullcontext[None]:
        return nullcontext()


# What Celery is to publish with inside `capture_publishes`, else None.
current_capture: Final = ContextVar[PublishCapture | None]("publish_capture", default=None)


@contextmanager
def capture_publishes(owner: str | None = None) -> Iterator[PublishCapture]:
    """Put every call that Celery makes in this context into the capture, for jobs of this owner."""
    capture = PublishCapture(owner)
    token = current_capture.set(capture)
    try:
        yield capture
    finally:
        current_capture.reset(token)
