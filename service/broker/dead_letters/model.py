"""Reads dead letters and where they lie: pure functions on what Redis has."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final

from kombu.utils.uuid import uuid

from service.broker import messages
from service.redis.keys import DEAD_SUFFIX
from service.results.model import is_job_id

# Kombu's defaults.
PRIORITY_STEPS: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up on. `at` is in UTC; `record` is what lies in Redis."""

    id: str
    queue: str
    reason: str
    deliveries: int
    at: datetime
    job_id: str | None
    task: str | None
    message: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Box:
    """Where to look: the queues, and Kombu's options where they differ from its defaults."""

    queues: tuple[str, ...] = ("celery",)
    prefix: str = ""
    priority_steps: tuple[int, ...] = PRIORITY_STEPS
    separator: str = SEPARATOR

    def key(self, queue: str) -> str:
        """The list of a queue's dead letters."""
        return f"{self.prefix}{queue}{DEAD_SUFFIX}"

    def waiting(self, queue: str) -> tuple[str, ...]:
        """The lists of a queue's jobs that wait, one for each priority."""
        name = f"{self.prefix}{queue}"
        return tuple(
            f"{name}{self.separator}{step}" if step else name for step in self.priority_steps
        )


def box_for(options: Mapping[str, Any], queues: Iterable[str]) -> Box:
    """The box of these queues, by Celery's `broker_transport_options`."""
    return Box(
        queues=tuple(queues),
        prefix=options.get("global_keyprefix", ""),
        priority_steps=tuple(options.get("priority_steps", PRIORITY_STEPS)),
        separator=options.get("sep", SEPARATOR),
    )


def decode(record: bytes | str) -> DeadLetter:
    """Read a record; raises ValueError if it is none of ours."""
    raw = record if isinstance(record, bytes) else record.encode("utf-8", "surrogateescape")
    try:
        fields = json.loads(raw.decode("utf-8", "surrogateescape"))
        message = str(fields["message"]).encode("utf-8", "surrogateescape")
        job = _job_id(message)
        return DeadLetter(
            id=job or sha1(raw).hexdigest()[:16],  # noqa: S324 - a name, not a secret
            queue=str(fields["queue"]),
            reason=_printable(str(fields["reason"])),
            deliveries=int(fields["deliveries"]),
            at=datetime.fromtimestamp(float(fields["at"]), UTC),
            job_id=job,
            task=_task(message),
            message=message,
            record=raw,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"This is not a dead letter: {error!r}") from error


def fresh(message: bytes) -> bytes:
    """The message as if it had just been published: never delivered, under a new tag."""
    try:
        payload = messages.read_plain(message)
    except messages.UnreadableMessageError:
        return message
    properties = {k: v for k, v in payload["properties"].items() if k != messages.DELIVERIES}
    # A worker that has finished a message of the old tag would take this one for a copy.
    properties["delivery_tag"] = uuid()
    for part in (properties.get("delivery_info"), payload.get("headers")):
        if isinstance(part, dict):
            part.pop("redelivered", None)
    return json.dumps({**payload, "properties": properties}).encode()


def _job_id(message: bytes) -> str | None:
    """The job's id, if it is one that can be asked for."""
    found = messages.job_id(message)
    return found if found is not None and is_job_id(found) else None


def _printable(text: str) -> str:
    """The text without lone surrogates, which JSON can have and UTF-8 can't."""
    return text.encode(errors="replace").decode()


def _task(message: bytes) -> str | None:
    try:
        task = messages.read_plain(message)["headers"]["task"]
    except (ValueError, TypeError, LookupError):
        return None
    return _printable(task) if isinstance(task, str) else None
