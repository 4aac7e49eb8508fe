"""Reads dead letters: pure functions on what Redis has."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1

from kombu.utils.uuid import uuid

from service.broker import messages
from service.results.marks import OWNER
from service.results.model import is_job_id


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

    @property
    def owner(self) -> str | None:
        """Whose job it is."""
        return _header(self.message, OWNER)

    @property
    def reason_in_short(self) -> str:
        """The reason without the text of an error, which may have some of the arguments."""
        beginning, colon, _ = self.reason.partition(": ")
        return f"{beginning}." if colon else self.reason

    @property
    def can_be_replayed(self) -> bool:
        """Whether a worker could read the message: else it would be a dead letter again at once."""
        return self.job_id is not None and self.task is not None

    @property
    def group(self) -> str:
        """A name for the letters of one task that died of the same."""
        alike = f"{self.reason}\n{self.task}"
        return sha1(alike.encode()).hexdigest()[:16]  # noqa: S324 - a name, not a secret

    @classmethod
    def decode(cls, record: bytes | str) -> "DeadLetter":
        """Read a record; raises ValueError if it is none of ours."""
        raw = record if isinstance(record, bytes) else record.encode("utf-8", "surrogateescape")
        try:
            fields = json.loads(raw.decode("utf-8", "surrogateescape"))
            message = str(fields["message"]).encode("utf-8", "surrogateescape")
            found = messages.job_id(message)
            job = found if found is not None and is_job_id(found) else None
            return cls(
                id=job or sha1(raw).hexdigest()[:16],  # noqa: S324 - a name, not a secret
                queue=str(fields["queue"]),
                reason=_printable(str(fields["reason"])),
                deliveries=int(fields["deliveries"]),
                at=datetime.fromtimestamp(float(fields["at"]), UTC),
                job_id=job,
                task=_header(message, "task"),
                message=message,
                record=raw,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"This is not a dead letter: {error!r}") from error


def as_published_anew(message: bytes) -> bytes:
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


def _printable(text: str) -> str:
    """The text without lone surrogates, which JSON can have and UTF-8 can't."""
    return text.encode(errors="replace").decode()


def _header(message: bytes, name: str) -> str | None:
    """The text of one of a message's headers; None where it has none."""
    try:
        text = messages.read_plain(message)["headers"][name]
    except (ValueError, TypeError, LookupError):
        return None
    return _printable(text) if isinstance(text, str) else None
