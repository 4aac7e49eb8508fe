"""One job's result, for a browser or a client that polls it."""

from datetime import datetime
from typing import Any, Final

from quart import Blueprint, current_app, render_template
from quart.typing import ResponseReturnValue

from service.results.model import Result
from service.results.store import get_results
from service.web.negotiation import wants_page

_POLL_AFTER: Final = "1"  # seconds

results = Blueprint("results", __name__)


@results.get("/result/<job_id>")
async def show(job_id: str) -> ResponseReturnValue:
    """How far a job is: 200 also for one that failed, 404 for one that nobody enqueued."""
    result = await get_results(current_app).get(job_id)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if not result.ready:
        headers["Retry-After"] = _POLL_AFTER
    if wants_page():
        return await render_template("result.html", result=as_json(result)), headers
    return as_json(result), headers


def as_json(result: Result) -> dict[str, Any]:
    """The public form of a result."""
    progress, error = result.progress, result.error
    return {
        "id": result.id,
        "task": result.task,
        "state": result.state.value,
        "ready": result.ready,
        "successful": result.successful,
        "result": result.result,
        "error": error and {"type": error.type, "message": error.message},
        "progress": progress
        and {"current": progress.current, "total": progress.total, "note": progress.note},
        "queued_at": _moment(result.queued_at),
        "started_at": _moment(result.started_at),
        "finished_at": _moment(result.finished_at),
    }


def _moment(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
