"""Turns what Celery knows of a job that changed its state into a note for the recorder."""

import time
from typing import Any, Final

from service.monitor.recorder import Recorder
from service.monitor.rows import JobRow, moment
from service.results.model import TERMINAL, State

_WORTH_NOTING: Final = frozenset({*TERMINAL, State.STARTED, State.RETRY})


def note_queued(recorder: Recorder, job_id: str, task: str) -> None:
    """A job was accepted."""
    now = time.time()
    recorder.note(JobRow(id=job_id, state=State.QUEUED.value, task=task, at=now, queued_at=now))


def note_state(recorder: Recorder, job_id: str, state: str, request: Any) -> None:
    """A worker is about to store a job's state; `request` is Celery's."""
    if state not in _WORTH_NOTING:
        return
    now = time.time()
    recorder.note(
        JobRow(
            id=job_id,
            state=state,
            task=str(getattr(request, "task", None) or ""),
            at=now,
            worker=getattr(request, "hostname", None),
            queued_at=moment(getattr(request, "queued_at", None)),
            started_at=moment(getattr(request, "started_at", None)),
            finished_at=now if state in TERMINAL else None,
            retries=getattr(request, "retries", None) or 0,
        )
    )
