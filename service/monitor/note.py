"""Turns what is known of a job that changed its state into a note for the recorder."""

import time
from typing import Any, Final

from service.monitor.recorder import Recorder
from service.results.model import State

_WORTH_NOTING: Final = frozenset(
    state.value for state in State if state not in {State.QUEUED, State.PROGRESS}
)
_QUEUED: Final = State.QUEUED.value


def note_queued(recorder: Recorder, job_id: str, task: str) -> None:
    """A job was accepted."""
    recorder.note((job_id, _QUEUED, task, time.time(), None, None, None, 0))


def note_state(recorder: Recorder, job_id: str, state: str, request: Any) -> None:
    """A worker has stored a job's state; `request` is Celery's."""
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
