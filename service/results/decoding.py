"""Reads the record of a job in every state: what Celery's clients, or ours, have stored."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from kombu.utils.json import object_hook

from service.results.marks import CANCELLED_BY, OWNER
from service.results.model import JobError, Progress, Result, State

FAILED: Final = frozenset({State.FAILURE, State.RETRY, State.REVOKED})  # their results are errors
# Celery lets a task set any other state of its own; a job in one of those is running.
_STATES: Final = {**State.__members__, "PENDING": State.QUEUED, "RECEIVED": State.QUEUED}


def decode(job_id: str, stored: bytes | str) -> Result:
    """Read the record that Celery's Redis backend (or our QUEUED record) holds.

    Raises ValueError when it is not a record of either.
    """
    record = record_fields(stored, rebuild=True)
    state = _STATES.get(str(record.get("status")), State.STARTED)
    value = record.get("result")
    return Result(
        id=job_id,
        state=state,
        task=_text_or_none(record.get("name")),
        result=value if state is State.SUCCESS else None,
        error=_error(value) if state in FAILED else None,
        progress=_progress(value) if state is State.PROGRESS else None,
        queued_at=moment_of(record.get("queued_at")),
        started_at=moment_of(record.get("started_at")),
        finished_at=moment_of(record.get("date_done")),
        due_at=moment_of(record.get("due_at")),
        attempt=1
        + max(_whole_number(record.get("retries")), _whole_number(record.get("attempts"))),
        cancelled_by=_text_or_none(record.get(CANCELLED_BY)),
        owner=_text_or_none(record.get(OWNER)),
        arguments=arguments if isinstance(arguments := record.get("arguments"), dict) else None,
    )


def record_fields(stored: bytes | str, *, rebuild: bool = False) -> dict[str, Any]:
    """A record's fields; with `rebuild`, values are what Kombu stored them for."""
    mark = b"__type__" if isinstance(stored, bytes) else "__type__"
    hook = _rebuilt if rebuild and mark in stored else None  # type: ignore[operator]  # of one type
    try:  # strict JSON has null for NaN and the infinities, which Python and others write
        record = json.loads(stored, object_hook=hook, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("a stored result is nested too deep") from error
    if not isinstance(record, dict):
        raise ValueError("a stored result is a JSON object")  # noqa: TRY004  one error for callers
    return record


def _rebuilt(value: dict[str, Any]) -> Any:
    """What Kombu stores dates, decimals, UUIDs and bytes as, which JSON has not."""
    try:
        return object_hook(value)
    except Exception:  # noqa: BLE001  a decoder may raise anything on a value of a task
        return value


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
    total, note = value.get("total"), str(value.get("note") or "")
    return Progress(value["current"], total if _is_number(total) else None, note)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def moment_of(value: Any) -> datetime | None:
    """A moment, which is one of UTC where it does not say."""
    with suppress(TypeError, ValueError, OverflowError):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None
