"""The public form of a job's result: what a client may see of the stored record."""

from datetime import datetime
from typing import Any

import msgspec

from service.results.model import Result


def as_json(result: Result) -> dict[str, Any]:
    """The public form of a result."""
    progress, error = result.progress, result.error
    return {
        "id": result.id,
        "task": result.task,
        "state": result.state.value,
        "ready": result.ready,
        "successful": result.successful,
        "result": plain(result.result),
        "error": error and {"type": error.type, "message": error.message},
        "progress": progress
        and {"current": progress.current, "total": progress.total, "note": progress.note},
        "queued_at": _moment(result.queued_at),
        "started_at": _moment(result.started_at),
        "finished_at": _moment(result.finished_at),
    }


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return msgspec.to_builtins(value, enc_hook=str)


def _moment(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
