"""A job as its card and its page tell it; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from service.results.model import Result, State
from service.web.http.filters import clipped, duration, pretty
from service.web.jobs.job_json import plain

_CARD: Final = 400  # characters of a result that a card shows
_PAGE: Final = 200_000

_ENDS: Final = {
    State.SUCCESS: "Finished",
    State.FAILURE: "Failed",
    State.REVOKED: "Cancelled",
}
_WORDS: Final = {
    State.QUEUED: "queued",
    State.STARTED: "running",
    State.PROGRESS: "running",
    State.RETRY: "to be tried again",
    State.SUCCESS: "finished",
    State.FAILURE: "failed",
    State.REVOKED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a job's way; `after` is the time since the one before, in words."""

    label: str
    at: datetime | None
    after: str = ""
    done: bool = True
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """What is told of a job."""

    id: str
    task: str
    state: str
    word: str
    ready: bool
    successful: bool
    error_type: str
    error: str
    value: str
    clipped: bool
    progress: Mapping[str, Any] | None
    arguments: Mapping[str, Any] | None
    took: str
    steps: tuple[Step, ...]
    queued_at: datetime | None
    started_at: datetime | None

    @property
    def summary(self) -> str:
        """One sentence for who hears the page."""
        if self.error and self.ready:
            return f"{self.task} {self.word}: {self.error}"
        return f"{self.task} {self.word}"


def tell(result: Result, *, in_full: bool = False) -> Story:
    """The story of a job so far."""
    text = pretty(plain(result.result)) if result.successful else ""
    value, more = clipped(text, _PAGE if in_full else _CARD)
    error = result.error
    if error is None and result.state is State.REVOKED:
        message = "It was cancelled."
    else:
        message = (error.message or error.type) if error else ""
    return Story(
        id=result.id,
        task=result.task or "A job",
        state=result.state.value,
        word=_WORDS[result.state],
        ready=result.ready,
        successful=result.successful,
        error_type=error.type if error else "",
        error=message,
        value=value,
        clipped=more,
        progress=_progress(result),
        arguments=result.arguments,
        took=duration(_seconds(result.started_at or result.queued_at, result.finished_at)),
        steps=tuple(_steps(result)),
        queued_at=result.queued_at,
        started_at=result.started_at,
    )


def _progress(result: Result) -> Mapping[str, Any] | None:
    found = result.progress
    if found is None:
        return None
    share = found.current / found.total if found.total else None
    return {
        "current": found.current,
        "total": found.total,
        "percent": None if share is None else max(0, min(100, round(100 * share))),
        "note": found.note,
    }


def _steps(result: Result) -> list[Step]:
    """Queued, started, how far, ended: those that came, and the next that is to come."""
    queued, started, finished = result.queued_at, result.started_at, result.finished_at
    steps = [Step("Queued", queued)]
    if started is not None:
        steps.append(Step("Started", started, _waited(queued, started)))
    elif not result.ready:
        return [*steps, Step("Waiting for a worker", None, done=False)]
    if result.state is State.PROGRESS and result.progress is not None:
        steps.append(Step(result.progress.note or "In progress", None, done=False))
    elif result.state is State.RETRY:
        steps.append(Step("Waiting to be tried again", None, done=False))
    elif not result.ready:
        steps.append(Step("Running", None, done=False))
    if result.ready:
        ran = duration(_seconds(started, finished))
        after = f"ran {ran}" if started else ""
        steps.append(Step(_ENDS[result.state], finished, after, bad=not result.successful))
    return steps


def _waited(queued: datetime | None, started: datetime) -> str:
    seconds = _seconds(queued, started)
    return "" if seconds is None else f"waited {duration(seconds)}"


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return max(0.0, (end - begin).total_seconds())
