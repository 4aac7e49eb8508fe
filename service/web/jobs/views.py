"""A job as JSON, by the structs that its schema is made from, and as people read it; pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from service.results.model import Result, State
from service.web.http.filters import duration, pretty

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
StateName = Annotated[str, Meta(extra_json_schema={"enum": [state.value for state in State]})]

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

_NOW: Final = "now"
_WAITING: Final = {State.QUEUED, State.RETRY}
_TONES: Final = {State.FAILURE: "bad", State.REVOKED: "neutral"}
# Why a job was cancelled, by the words of Celery and of our own cancelling.
_CANCELLED: Final = {
    "terminated": "It was cancelled while it ran.",
    "revoked": "It was cancelled before it ran.",
    "cancelled": "It was cancelled before it ran.",
    "expired": "It had expired before a worker could run it.",
    "ignored": "The task has ended it without a result, by raising Ignore.",
}


class JobErrorView(msgspec.Struct, frozen=True):
    """Why a job failed."""

    type: str
    message: str


class ProgressView(msgspec.Struct, frozen=True):
    """How much of its work a job says that it has done."""

    current: float
    total: float | None
    note: str


class ResultView(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may see of a job's record."""

    id: str
    task: str | None
    state: StateName
    ready: Annotated[bool, Meta(description="Whether the job has ended.")]
    successful: bool
    result: Annotated[Any, Meta(description="What the task returned, once it has.")]
    error: JobErrorView | None
    progress: ProgressView | None
    queued_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None


def as_json(result: Result) -> dict[str, Any]:
    """The ResultView of a result, as JSON has it."""
    error, progress = result.error, result.progress
    view = ResultView(
        id=result.id,
        task=result.task,
        state=result.state.value,
        ready=result.ready,
        successful=result.successful,
        result=result.result,
        error=JobErrorView(error.type, error.message) if error else None,
        progress=ProgressView(progress.current, progress.total, progress.note)
        if progress
        else None,
        queued_at=_iso(result.queued_at),
        started_at=_iso(result.started_at),
        finished_at=_iso(result.finished_at),
    )
    found: dict[str, Any] = plain(view)
    return found


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return msgspec.to_builtins(value, enc_hook=str)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a job's timeline; `after` is the time since the one before, in words.

    `since` is when a step that goes on began, where it is known. The `tone` is `now` for the step
    that is to come or goes on, `bad`, `neutral`, or nothing.
    """

    label: str
    at: datetime | None = None
    after: str = ""
    tone: str = ""
    since: datetime | None = None


class JobView:
    """What a page shows of a job. `value` is its result as JSON, or the beginning of that."""

    def __init__(self, result: Result, *, in_full: bool = False, arguments: bool = True) -> None:
        """View a job for its page `in_full`, else for its card; with its `arguments`, or without.

        Only a task that shows them has any.
        """
        text = pretty(plain(result.result)) if result.successful else ""
        limit = _PAGE_LIMIT if in_full else _CARD_LIMIT
        error = result.error
        self.id = result.id
        self.task = result.task or "A job"
        self.state = result.state.value
        self.word = _WORDS[result.state]
        self.ready = result.ready
        self.is_due_later = result.due_at is not None and result.state in _WAITING
        self.successful = result.successful
        self.error_type = error.type if error else ""
        self.error = (error.message or error.type) if error else ""
        if result.state is State.REVOKED:
            self.error_type = ""
            self.error = _CANCELLED.get(self.error) or self.error or "It was cancelled."
        self.value = text[:limit]
        self.clipped = len(text) > limit
        self.progress = result.progress
        self.note = _note(result)
        self.arguments = result.arguments if arguments else None
        self.took = _duration(result.started_at or result.queued_at, result.finished_at)
        self.steps = _steps(result)
        self.queued_at = result.queued_at

    @property
    def summary(self) -> str:
        """One sentence for a screen reader to announce."""
        error = f": {self.error}" if self.error and self.ready else ""
        return f"{self.task} {self.word}{error}"


def _note(result: Result) -> str:
    """What a job that has not ended does, in a few words."""
    if result.progress is not None:
        return result.progress.note
    if result.state is State.QUEUED:
        return "scheduled" if result.due_at is not None else "waiting for a worker"
    return _WORDS[result.state]


def _steps(result: Result) -> list[Step]:
    """Queued, started, how far, ended: the steps that came, and the one that is to come next."""
    queued, started = result.queued_at, result.started_at
    steps = [Step("Queued", queued)]
    if started is not None:
        again = f", attempt {result.attempt}" if result.attempt > 1 else ""
        steps.append(Step(f"Started{again}", started, _waited(result, started)))
    if not result.ready:
        return [*steps, _next_step(result)]
    label, tone = _WORDS[result.state].capitalize(), _TONES.get(result.state, "")
    after = f"ran {_duration(started, result.finished_at)}" if started else ""
    if result.state is State.REVOKED and not after and queued and result.finished_at:
        after = f"after {_duration(queued, result.finished_at)}"
    return [*steps, Step(label, result.finished_at, after, tone)]


def _waited(result: Result, started: datetime) -> str:
    """How long the present attempt waited: since it was due, or the first one since it was queued.

    An attempt that is to be tried again has when the next one is due, in place of when it was.
    """
    since = result.due_at if result.state is not State.RETRY else None
    if since is None and result.attempt == 1:
        since = result.queued_at
    return f"waited {_duration(since, started)}" if since is not None else ""


def _next_step(result: Result) -> Step:
    """What a job that has not ended does, or waits for."""
    due = result.due_at
    if result.state is State.RETRY:
        return Step("To be tried again" if due else "Waiting to be tried again", due, tone=_NOW)
    if result.state is State.QUEUED:
        return Step("Scheduled for" if due else "Waiting for a worker", due, tone=_NOW)
    if result.progress is not None:
        return Step(result.progress.note or "In progress", tone=_NOW, since=result.started_at)
    return Step("Running", tone=_NOW, since=result.started_at)


def _duration(begin: datetime | None, end: datetime | None) -> str:
    """The time from one moment to the other in words; a dash where one is unknown."""
    if begin is None or end is None:
        return duration(None)
    return duration(max(0.0, (end - begin).total_seconds()))
