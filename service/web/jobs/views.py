"""A job as JSON: the struct from which the answers, their schema and the documentation come."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.results.model import Result, State

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
StateName = Annotated[str, Meta(extra_json_schema={"enum": [state.value for state in State]})]


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
