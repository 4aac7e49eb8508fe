"""What is known of a job, decoded from the form in which Celery stores it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from kombu.utils.json import object_hook

# Browsers, and whatever follows RFC 3986, take the parts `.` and `..` out of an address.
_ID: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,64}")


class State(StrEnum):
    """How far a job is."""

    QUEUED = "QUEUED"
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def ready(self) -> bool:
        """Whether the job has ended."""
        return self in TERMINAL


TERMINAL: Final = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of its work a job says that it has done."""

    current: float
    total: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, without anything of the machine that it failed on."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job made, or how far it is. Times are those that were recorded; None is unknown."""

    id: str
    state: State
    task: str | None = None
    result: Any = None
    error: JobError | None = None
    progress: Progress | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    owner: str | None = None
    arguments: Mapping[str, Any] | None = None  # by name, where the task allows showing them

    @property
    def ready(self) -> bool:
        """Whether the job has ended."""
        return self.state.ready

    @property
    def successful(self) -> bool:
        """Whether the job has ended well."""
        return self.state is State.SUCCESS


def now() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).isoformat()


def version(stored: bytes) -> str:
    """A name for exactly this record, to tell whether another one is the same."""
    return blake2b(stored, digest_size=9).hexdigest()


def is_job_id(text: str) -> bool:
    """Whether the text has the shape of a job's id."""
    return _ID.fullmatch(text) is not None


def decode(job_id: str, stored: bytes | str) -> Result:
    """Read the record that Celery's Redis backend (or our QUEUED record) holds.

    Raises ValueError when it is not a record of either.
    """
    mark = b"__type__" if isinstance(stored, bytes) else "__type__"
    meta = json.loads(stored, object_hook=_rebuilt if mark in stored else None)  # type: ignore[operator]  # both are of one type
    if not isinstance(meta, dict):
        raise ValueError("a stored result is a JSON object")  # noqa: TRY004  one error for the caller
    state = _state(meta.get("status"))
    value = meta.get("result")
    return Result(
        id=job_id,
        state=state,
        task=_text(meta.get("name")),
        result=value if state is State.SUCCESS else None,
        error=_error(value) if state in {State.FAILURE, State.RETRY, State.REVOKED} else None,
        progress=_progress(value) if state is State.PROGRESS else None,
        queued_at=_time(meta.get("queued_at")),
        started_at=_time(meta.get("started_at")),
        finished_at=_time(meta.get("date_done")),
        owner=_text(meta.get("owner")),
        arguments=arguments if isinstance(arguments := meta.get("arguments"), dict) else None,
    )


def _rebuilt(value: dict[str, Any]) -> Any:
    """What Kombu stores dates, decimals, UUIDs and bytes as, which JSON has not."""
    try:
        return object_hook(value)
    except Exception:  # noqa: BLE001  whatever a decoder makes of what is none of its own
        return value


def _state(status: object) -> State:
    """Celery lets a task set any state of its own; a job in one of those is running."""
    if status in ("PENDING", "RECEIVED"):
        return State.QUEUED
    try:
        return State(str(status))
    except ValueError:
        return State.STARTED


def _error(value: object) -> JobError:
    if not isinstance(value, Mapping):
        return JobError(type="Error", message="" if value is None else str(value))
    message = value.get("exc_message")
    parts = message if isinstance(message, (list, tuple)) else [message]
    return JobError(
        type=str(value.get("exc_type") or "Error"),
        message=", ".join(str(part) for part in parts if part is not None),
    )


def _progress(value: object) -> Progress | None:
    if not isinstance(value, Mapping) or not _is_number(value.get("current")):
        return None
    total = value.get("total")
    return Progress(
        current=value["current"],
        total=total if _is_number(total) else None,
        note=str(value.get("note") or ""),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
