"""Collects the messages that Celery would publish, instead of publishing them.

So Celery's own code, routers and canvas included, decides what is sent, and never waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Letter:
    """One call of `Producer.publish`. An event of Celery's own has no job."""

    job_id: str
    task: str
    queued_at: str
    body: Any
    options: dict[str, Any]


class _Outbox:
    """Stands where Celery expects a Kombu producer."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.serializer = None
        self.connection = self

    def publish(self, body: Any, **options: Any) -> None:
        """Keep what would have been published."""
        headers = options.get("headers") or {}
        options["retry"] = False  # ours is the deadline, and whoever calls may try again
        self.letters.append(
            Letter(
                job_id=headers.get("id", ""),
                task=headers.get("task", ""),
                queued_at=headers.get("queued_at", ""),
                body=body,
                options=options,
            )
        )

    def _reraise_as_library_errors(self) -> nullcontext[None]:
        return nullcontext()


_current: Final[ContextVar[_Outbox | None]] = ContextVar("outbox", default=None)


@contextmanager
def collecting() -> Iterator[list[Letter]]:
    """Whatever Celery publishes in this context is put into the list, and not sent."""
    outbox = _Outbox()
    token = _current.set(outbox)
    try:
        yield outbox.letters
    finally:
        _current.reset(token)


def current_outbox() -> Any:
    """What to publish with where `collecting`, else None."""
    return _current.get()
