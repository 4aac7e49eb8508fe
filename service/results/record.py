"""Writes and reads the record of a job in every state: the JSON of Celery's result backend.

Celery's clients read these records as their own. Of Celery's fields, `status` holds the state; ours
are `name`, `worker`, `queued_at`, `started_at`, `owner`, `arguments`, and marks of jobs that wait.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from kombu.utils.json import JSONEncoder, object_hook

from service.errors import UnstorableResultError
from service.results.model import TERMINAL, JobError, Progress, Result, State

# store.lua looks for the state at the head of a record, and so saves decoding it: every record that
# is written here begins with this field.
_STATE: Final = "status"
# What a worker's request knows of a job, by the field that it is stored in; as Celery's
# `result_extended` names it, where it does.
_OF_REQUEST: Final = {
    "name": "task",
    "worker": "hostname",
    "retries": "retries",
    "queued_at": "queued_at",
    "started_at": "started_at",
    "owner": "owner",
}
# Celery lets a task set any other state of its own; a job in one of those is running.
_STATES: Final = {**State.__members__, "PENDING": State.QUEUED, "RECEIVED": State.QUEUED}
_FAILED: Final = frozenset({State.FAILURE, State.RETRY, State.REVOKED})
_ENCODER: Final = JSONEncoder(allow_nan=False)
_MAX_SETTING: Final = "SERVICE_MAX_RESULT"
_MAY_BE_UNSTORABLE: Final = {"args", "kwargs", "arguments"}


def now() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).isoformat()


def encode_queued(
    job_id: str | None,
    task: str | None,
    queued_at: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    marks: Mapping[str, object] | None = None,
) -> str:
    """The record of a job that waits; `marks` are fields for its publisher to find again.

    Celery takes a state that it does not know, such as QUEUED, for one that is not ready. `owner`
    is still unused.
    """
    record: dict[str, Any] = {
        _STATE: State.QUEUED.value,
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": job_id,
        "name": task,
        "queued_at": queued_at,
        "owner": None,
        **(marks or {}),
    }
    if arguments is not None:
        record["arguments"] = arguments
    return json.dumps(record)


def encode_ended(stored: bytes, state: State, error: Exception, *, without: str = "") -> bytes:
    """The record of a job that ends without a worker: what is stored, with its end.

    `without` is a mark that is taken away. Raises ValueError if `stored` is not a record.
    """
    name, module = type(error).__name__, type(error).__module__
    result = {"exc_type": name, "exc_message": [str(error)], "exc_module": module}
    kept = {k: v for k, v in _fields(stored).items() if k not in (_STATE, without)}
    record = {_STATE: state.value, **kept, "result": result, "date_done": now()}
    return json.dumps(record).encode()


def mark_of(stored: bytes | str, name: str) -> Any:
    """A mark of a job that waits; None if there is none, or the job does not wait any more."""
    with suppress(ValueError):
        if (fields := _fields(stored)).get(_STATE) == State.QUEUED.value:
            return fields.get(name)
    return None


def encode_job(  # noqa: PLR0913  each by name
    job_id: str,
    state: str,
    result: Any,
    *,
    traceback: Any,
    children: Sequence[Any],
    request: Any,
    extended: Mapping[str, Any],
    arguments: Mapping[str, Any] | None,
    max_bytes: int,
) -> str:
    """The record of a job that a worker runs, as strict JSON.

    `request` is Celery's, or None; `extended` is what `result_extended` adds. Of a failure, what
    cannot be stored is cut; anything else is refused. Raises UnstorableResultError.
    """
    record: dict[str, Any] = {
        _STATE: state,
        "result": result,
        "traceback": traceback,
        "children": children,
        "date_done": now() if state in TERMINAL else None,
        **extended,
    }
    if request is not None:
        if group := getattr(request, "group", None):
            record["group_id"] = group
        if parent := getattr(request, "parent_id", None):
            record["parent_id"] = parent
        for field, attribute in _OF_REQUEST.items():
            record[field] = getattr(request, attribute, None)
        # For an unregistered task Celery's request is nearly empty; only `name` is set.
        record["name"] = record["name"] or getattr(request, "name", None)
    if arguments is not None:
        record["arguments"] = arguments
    record["task_id"] = job_id
    try:
        return encode_strictly(record, max_bytes)
    except UnstorableResultError:
        if state not in _FAILED or not isinstance(result, dict):
            raise
        return json.dumps(_cut_failure(record, max_bytes))


def encode_strictly(value: Any, max_bytes: int) -> str:
    """Strict JSON that a record can hold. Raises UnstorableResultError."""
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"The result is not strict JSON, and can't be stored: {error}"
        raise UnstorableResultError(reason) from error
    if len(text) > max_bytes:  # the JSON is ASCII, so a character is a byte
        raise UnstorableResultError(
            f"The result makes a record of {len(text)} bytes; {_MAX_SETTING} allows {max_bytes}."
            " Store what is large elsewhere, and return where it is."
        )
    return text


def _cut_failure(record: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """A failure without what can't be stored: how a job failed matters more than all of it."""
    result = record["result"]
    room = max_bytes // 4
    text = ", ".join(str(part) for part in result.get("exc_message") or ())
    traceback = str(record["traceback"] or "")
    if len(text) > room or len(traceback) > room:
        text = f"{text[:room]} … (cut by {_MAX_SETTING})"
    return {
        **{field: value for field, value in record.items() if field not in _MAY_BE_UNSTORABLE},
        "result": {**result, "exc_message": [text]},
        "traceback": traceback[-room:],
        "children": [],
    }


def decode(job_id: str, stored: bytes | str) -> Result:
    """Read the record that Celery's Redis backend (or our QUEUED record) holds.

    Raises ValueError when it is not a record of either.
    """
    record = _fields(stored, rebuild=True)
    state = _STATES.get(str(record.get(_STATE)), State.STARTED)
    value = record.get("result")
    return Result(
        id=job_id,
        state=state,
        task=_text_or_none(record.get("name")),
        result=value if state is State.SUCCESS else None,
        error=_error(value) if state in _FAILED else None,
        progress=_progress(value) if state is State.PROGRESS else None,
        queued_at=_time(record.get("queued_at")),
        started_at=_time(record.get("started_at")),
        finished_at=_time(record.get("date_done")),
        owner=_text_or_none(record.get("owner")),
        arguments=arguments if isinstance(arguments := record.get("arguments"), dict) else None,
    )


def _fields(stored: bytes | str, *, rebuild: bool = False) -> dict[str, Any]:
    """A record's fields; with `rebuild`, values are what Kombu stored them for."""
    mark = b"__type__" if isinstance(stored, bytes) else "__type__"
    hook = _rebuilt if rebuild and mark in stored else None  # type: ignore[operator]  # of one type
    record = json.loads(stored, object_hook=hook)
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
    total = value.get("total")
    return Progress(
        current=value["current"],
        total=total if _is_number(total) else None,
        note=str(value.get("note") or ""),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> datetime | None:
    with suppress(TypeError, ValueError):
        return datetime.fromisoformat(value)
    return None
