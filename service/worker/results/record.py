"""The record of a job in the form that Celery's clients read, as strict JSON of limited size."""

import json
from typing import Any, Final

from celery import states
from kombu.utils.json import JSONEncoder

from service.errors import UnstorableResultError
from service.jobs.sending.shown_arguments import shown_arguments
from service.results.model import now

# What is stored besides Celery's own fields: its key (as Celery's `result_extended` names it,
# where it does) and the attribute of the request that it is read from.
_STORY: Final = {
    "name": "task",
    "worker": "hostname",
    "retries": "retries",
    "queued_at": "queued_at",
    "started_at": "started_at",
    "owner": "owner",
}
_ENCODER: Final = JSONEncoder(allow_nan=False)
_SETTING: Final = "SERVICE_MAX_RESULT"
_UNSURE: Final = {"args", "kwargs", "arguments"}


def build_meta(  # noqa: PLR0913, PLR0917  what Celery's backend gets
    backend: Any, task_id: str, result: Any, state: str, traceback: Any, request: Any
) -> dict[str, Any]:
    """The record's fields. The state comes first: store.lua looks for it there.

    Celery's own `_get_result_meta` does the same at a multiple of the cost; it is asked only
    for what `result_extended` adds.
    """
    meta: dict[str, Any] = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": backend.current_task_children(request),
        "date_done": now() if state in states.READY_STATES else None,
    }
    if request is not None:
        if backend.extended:
            meta |= backend.extended_meta(request)
        if group := getattr(request, "group", None):
            meta["group_id"] = group
        if parent := getattr(request, "parent_id", None):
            meta["parent_id"] = parent
        for key, attribute in _STORY.items():
            meta[key] = getattr(request, attribute, None)
        # Of a task that it does not know Celery makes up a request, with hardly anything in it.
        if (task := backend.tasks.get(meta["name"])) is None:
            meta["name"] = meta["name"] or getattr(request, "name", None)
        elif (shown := shown_arguments(task, request.args, request.kwargs)) is not None:
            meta["arguments"] = shown
    meta["task_id"] = task_id
    return meta


def encode_record(meta: dict[str, Any], *, max_size: int) -> str:
    """Encode as strict JSON; of a failure what can't be stored is cut, anything else is refused.

    Raises UnstorableResultError.
    """
    try:
        record = _encode(meta)
        _check_size(len(record), max_size)
    except UnstorableResultError:
        if meta["status"] in states.EXCEPTION_STATES and isinstance(meta["result"], dict):
            return json.dumps(_cut(meta, max_size))
        raise
    return record


def checked_for_others(task: Any, request: Any, value: Any) -> Any:
    """What a body has returned, that other jobs are to be sent with.

    Celery sends them before it stores the value. Raises UnstorableResultError.
    """
    if request.callbacks or request.chain:
        _check_size(len(_encode(value)), task.backend.max_size)
    return value


def _check_size(size: int, max_size: int) -> None:
    if size > max_size:
        raise UnstorableResultError(
            f"The result makes a record of {size} bytes; {_SETTING} allows {max_size}."
            " Store what is large elsewhere, and return where it is."
        )


def _encode(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableResultError(
            f"The result is not strict JSON, and can't be stored: {error}"
        ) from error


def _cut(meta: dict[str, Any], max_size: int) -> dict[str, Any]:
    """A failure without what can't be stored: how a job failed matters more than all of it."""
    result = meta["result"]
    room = max_size // 4
    text = ", ".join(str(part) for part in result.get("exc_message") or ())
    traceback = str(meta["traceback"] or "")
    if len(text) > room or len(traceback) > room:
        text = f"{text[:room]} … (cut by {_SETTING})"
    return {
        **{key: value for key, value in meta.items() if key not in _UNSURE},
        "result": {**result, "exc_message": [text]},
        "traceback": traceback[-room:],
        "children": [],
    }
