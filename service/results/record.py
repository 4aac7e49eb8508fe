"""Writes the record of a job in every state: the JSON of Celery's result backend.

Celery's clients read these records as their own. Of Celery's fields, `status` holds the state; ours
are `name`, `worker`, `queue`, `queued_at`, `started_at`, `due_at`, `arguments`, `owner`, `tags`,
marks, and `ended_at` of an attempt that is to be tried again.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from kombu.utils.json import JSONEncoder

from service.errors import UnstorableResultError
from service.results.decoding import FAILED, record_fields
from service.results.marks import NAME, OWNER, TAGS, of_owner, tags_in
from service.results.model import TERMINAL, State
from service.results.short import shorten_error

# store.lua looks for the state at the head of a record, and so saves decoding it: every record that
# is written here begins with this field. Marks and the task's name come next; see marks.py.
_STATE: Final = "status"
# What a worker's request knows of a job, by the field that it is stored in; as Celery's
# `result_extended` names it, where it does.
_OF_REQUEST: Final = {
    "worker": "hostname",
    "retries": "retries",
    "queued_at": "queued_at",
    "started_at": "started_at",
}
_QUEUED_HEAD: Final = f'{{"{_STATE}": "{State.QUEUED}",'.encode()
_ENCODER: Final = JSONEncoder(allow_nan=False)
_MAX_SETTING: Final = "SERVICE_MAX_RESULT"
_MAY_BE_UNSTORABLE: Final = {"args", "kwargs", "arguments"}


def now() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).isoformat()


def encode_queued(  # noqa: PLR0913  the last seven by name
    job_id: str | None,
    task: str | None,
    queued_at: str,
    *,
    owner: str | None = None,
    queue: str = "",
    tags: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    marks: Mapping[str, object] | None = None,
    due_at: str | None = None,
    waits_for: Sequence[str] = (),
) -> str:
    """The record of a job that waits; `marks` are fields for those who find it to read.

    `due_at` is of a scheduled job, `waits_for` has the ids of the jobs before a later one.

    Celery takes a state that it does not know, such as QUEUED, for one that is not ready.
    """
    record: dict[str, Any] = {
        _STATE: State.QUEUED.value,
        **of_owner(owner),
        **(marks or {}),
        NAME: task,
        "result": None,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": job_id,
        "queued_at": queued_at,
    }
    if queue:
        record["queue"] = queue
    if tags:
        record[TAGS] = tags
    if arguments is not None:
        record["arguments"] = arguments
    if due_at:
        record["due_at"] = due_at
    if waits_for:
        record["waits_for"] = waits_for
    return json.dumps(record)


def encode_ended(stored: bytes, state: State, error: Exception, *, without: str = "") -> bytes:
    """The record of a job that ends without a worker: what is stored, with its end.

    `without` is a mark that is taken away. Raises ValueError if `stored` is not a record.
    """
    name, module = type(error).__name__, type(error).__module__
    result = {"exc_type": name, "exc_message": [str(error)], "exc_module": module}
    kept = {k: v for k, v in record_fields(stored).items() if k not in (_STATE, without)}
    record = {_STATE: state.value, **kept, "result": result, "date_done": now()}
    return json.dumps(record).encode()


def is_queued(stored: bytes) -> bool:
    """Whether the record says QUEUED, as ours do; for a tenth of what decoding it costs."""
    return stored.startswith(_QUEUED_HEAD)


def failed_alike(*stored: bytes) -> bool:
    """Whether all jobs have failed by one error, as those of a chain do."""
    with suppress(ValueError, KeyError):
        first, *others = (
            (record[_STATE], record["result"]) for record in map(record_fields, stored)
        )
        return first[0] == State.FAILURE.value and all(one == first for one in others)
    return False


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
    if state in FAILED and isinstance(result, dict):
        result, traceback = shorten_error(result, traceback)
    record: dict[str, Any] = {
        _STATE: state,
        **of_owner(getattr(request, OWNER, None)),
        # For an unregistered task Celery's request is nearly empty; only `name` is set.
        NAME: getattr(request, "task", None) or getattr(request, NAME, None),
        "result": result,
        "traceback": traceback,
        "children": children,
        "date_done": now() if state in TERMINAL else None,
        **{field: value for field, value in extended.items() if field != NAME},
    }
    if request is not None:
        if group := getattr(request, "group", None):
            record["group_id"] = group
        if parent := getattr(request, "parent_id", None):
            record["parent_id"] = parent
        for field, attribute in _OF_REQUEST.items():
            record[field] = getattr(request, attribute, None)
        record.update(_of_way(request, job_id, state))
    if arguments is not None:
        record["arguments"] = arguments
    record["task_id"] = job_id
    try:
        return encode_strictly(record, max_bytes)
    except UnstorableResultError:
        if state not in FAILED or not isinstance(result, dict):
            raise
        return json.dumps(_cut_failure(record, max_bytes))


def _of_way(request: Any, job_id: str, state: str) -> dict[str, Any]:
    """Where the message came from, when it was due, and when it is due again."""
    found: dict[str, Any] = {}
    if delivery := getattr(request, "delivery_info", None):
        found["queue"] = delivery.get("routing_key")
    if (root := getattr(request, "root_id", None)) and root != job_id:
        found["root_id"] = root
    if state == State.RETRY:
        found["ended_at"] = now()
        due = getattr(request, "due_again_at", None)
    else:
        due = getattr(request, "eta", None)
    if due:
        found["due_at"] = due
    if tags := tags_in(getattr(request, TAGS, None)):
        found[TAGS] = tags
    return found


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
