"""Turns what is known of a job that changed its state into a note for the recorder."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from service.monitor.recorder import Recorder
from service.results.model import State

_WORTH_NOTING: Final = frozenset(
    state.value for state in State if state.ready or state is State.RETRY
)
_QUEUED: Final = State.QUEUED.value
_STARTED: Final = State.STARTED.value


def note_queued(recorder: Recorder, job_id: str, task: str) -> None:
    """A job was accepted."""
    recorder.note((job_id, _QUEUED, task, time.time(), None, None, None, 0))


def note_running(recorder: Recorder, request: Any, started: float) -> None:
    """A job runs; `request` is the worker's, and `started` in seconds since 1970."""
    started_at = datetime.fromtimestamp(started, UTC).isoformat()
    queued_at = (request.message.headers or {}).get("queued_at")
    recorder.note(
        (request.id, _STARTED, request.name, started, request.hostname, queued_at, started_at, 0)
    )


def note_state(recorder: Recorder, job_id: str, state: str, request: Any) -> None:
    """A worker has stored a job's state; `request` is Celery's.

    That a job has started is noted by the worker's reporter, once it has run for a while: most
    have ended before anybody could have seen them run.
    """
    if state not in _WORTH_NOTING:
        return
    task = getattr(request, "task", None)
    recorder.note(
        (
            job_id,
            state,
            task if isinstance(task, str) else "",
            time.time(),
            getattr(request, "hostname", None),
            getattr(request, "queued_at", None),
            getattr(request, "started_at", None),
            getattr(request, "retries", None) or 0,
        )
    )
