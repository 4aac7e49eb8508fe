"""A job as people read it, on its card and on its page; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from service.results.model import Progress, Result, State
from service.web.http.filters import duration, pretty
from service.web.jobs.views import plain

_CARD_LIMIT: Final = 400  # characters of a result that a card shows
_PAGE_LIMIT: Final = 200_000

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
    """One step of a job's timeline; `after` is the time since the one before, in words."""

    label: str
    at: datetime | None = None
    after: str = ""
    done: bool = True
    bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """What a page shows of a job. `value` is its result as JSON, or the beginning of that."""

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
    progress: Progress | None
    arguments: Mapping[str, Any] | None
    took: str
    steps: tuple[Step, ...]
    queued_at: datetime | None

    @classmethod
    def of(cls, result: Result, *, in_full: bool = False) -> "JobView":
        """The view of a job: for its page `in_full`, else for its card."""
        text = pretty(plain(result.result)) if result.successful else ""
        limit = _PAGE_LIMIT if in_full else _CARD_LIMIT
        error = result.error
        message = (error.message or error.type) if error else ""
        if error is None and result.state is State.REVOKED:
            message = "It was cancelled."
        return cls(
            id=result.id,
            task=result.task or "A job",
            state=result.state.value,
            word=_WORDS[result.state],
            ready=result.ready,
            successful=result.successful,
            error_type=error.type if error else "",
            error=message,
            value=text[:limit],
            clipped=len(text) > limit,
            progress=result.progress,
            arguments=result.arguments,
            took=_duration(result.started_at or result.queued_at, result.finished_at),
            steps=tuple(_steps(result)),
            queued_at=result.queued_at,
        )

    @property
    def summary(self) -> str:
        """One sentence for a screen reader to announce."""
        error = f": {self.error}" if self.error and self.ready else ""
        return f"{self.task} {self.word}{error}"


def _steps(result: Result) -> list[Step]:
    """Queued, started, how far, ended: the steps that came, and the one that is to come next."""
    queued, started = result.queued_at, result.started_at
    steps = [Step("Queued", queued)]
    if started is not None:
        waited = f"waited {_duration(queued, started)}" if queued else ""
        steps.append(Step("Started", started, waited))
    elif not result.ready:
        return [*steps, Step("Waiting for a worker", done=False)]
    if result.ready:
        ran = f"ran {_duration(started, result.finished_at)}" if started else ""
        label = _WORDS[result.state].capitalize()
        steps.append(Step(label, result.finished_at, ran, bad=not result.successful))
    elif result.state is State.RETRY:
        steps.append(Step("Waiting to be tried again", done=False))
    elif result.state is State.PROGRESS and result.progress is not None:
        steps.append(Step(result.progress.note or "In progress", done=False))
    else:
        steps.append(Step("Running", done=False))
    return steps


def _duration(begin: datetime | None, end: datetime | None) -> str:
    """The time from one moment to the other in words; a dash where one is unknown."""
    if begin is None or end is None:
        return duration(None)
    return duration(max(0.0, (end - begin).total_seconds()))
