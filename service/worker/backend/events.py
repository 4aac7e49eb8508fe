"""Makes the event of a job whose state a worker stores."""

import time
from typing import Any, Final

from celery import states

from service.results.marks import TAGS, tags_in
from service.results.short import line_of
from service.signals import JobEvent, seconds_since_epoch
from service.worker.backend.place import place_of

_MAX_PART: Final = 1_000  # characters


def event_of(task_id: str, state: str, request: Any, encoded: Any, traceback: Any) -> JobEvent:
    """The event; `request` is Celery's, or None, and `encoded` what its record has as the result.

    Only of a job that failed, or is tried again, is more said than when and where it ran.
    """
    task = getattr(request, "task", None)
    delivery = getattr(request, "delivery_info", None)
    eta = getattr(request, "eta", None)
    at = time.time()
    error = place = ""
    if state in states.EXCEPTION_STATES and isinstance(encoded, dict):
        error = _error_line(encoded)
        if state == states.FAILURE and traceback:
            place = place_of(str(traceback))
    return JobEvent(
        task_id,
        state,
        task if isinstance(task, str) else "",
        at,
        getattr(request, "hostname", None),
        seconds_since_epoch(getattr(request, "queued_at", None)),
        seconds_since_epoch(getattr(request, "started_at", None)),
        at if state in states.READY_STATES else None,
        getattr(request, "retries", None) or 0,
        delivery.get("routing_key") if delivery else None,
        error,
        place,
        None if eta is None else seconds_since_epoch(eta),
        tags_in(getattr(request, TAGS, None)),
        getattr(request, "group", None),
    )


def _error_line(encoded: dict[str, Any]) -> str:
    message = encoded.get("exc_message")
    parts = message if isinstance(message, list | tuple) else [message]
    text = ", ".join(str(part)[:_MAX_PART] for part in parts if part is not None)
    return line_of(str(encoded.get("exc_type")), text)
