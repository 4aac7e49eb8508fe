"""One job's result: answered at once or at its next change, streamed, and cancelled."""

from collections.abc import AsyncIterator
from contextlib import closing
from http import HTTPStatus
from typing import Final

from quart import Blueprint, Response, current_app, request
from quart.typing import ResponseReturnValue

from service.access.access import (
    audit_for_another,
    caller_of,
    follow_job,
    read_job,
    shows_arguments,
)
from service.access.policy import Action
from service.errors import ResultsUnavailableError, UnknownJobError
from service.parts import parts_of
from service.results.follower import Follower, NoChange
from service.results.store import StoredRecord
from service.web.http.negotiation import (
    EVENTS,
    HTML,
    JSON,
    MAX_WAIT,
    seconds_to_wait,
    wants_events,
    wants_page,
)
from service.web.http.openapi import Operation, parameter
from service.web.http.site import render, site_of
from service.web.http.streams import RETRY, comment, event, stream, when_request_ends
from service.web.jobs.operators import details_of, may_watch
from service.web.jobs.views import JobView, ResultView, as_json
from service.web.limits.checks import hold, holding

_POLL_AFTER: Final = "1"  # seconds
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": MAX_WAIT}

results = Blueprint("results", __name__)


@results.get("/result/<job_id>", endpoint="show")
@Operation(
    {200: {JSON: ResultView, HTML: None, EVENTS: None}, 204: {}, 304: {}},
    problems=(400, 404, 503),
    parameters=[
        parameter("wait", "query", "Seconds to wait for a change at most.", **_SECONDS),
        parameter("If-None-Match", "header", "The ETag of what is known.", type="string"),
    ],
)
async def show_result(job_id: str) -> ResponseReturnValue:
    """How far a job is: 200 also for one that failed, 404 for one that nobody enqueued.

    `?wait=SECONDS` answers at the next change, or when the time is up. With `If-None-Match` the
    change counts from what the client has.
    """
    if wants_events():
        return await events(job_id)
    if seconds := seconds_to_wait():
        record = await _at_next_change(job_id, seconds)
    else:
        record = await read_job(job_id)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if not record.result.ready:
        headers["Retry-After"] = _POLL_AFTER
    has_page = site_of(current_app).pages is not None
    if has_page and wants_page() and request.args.get("format") != "json":
        job = JobView(record.result, in_full=True, arguments=await shows_arguments(record))
        details, watches = await details_of(record), await may_watch()
        return await render("result.html", job=job, details=details, watches=watches), headers
    headers["ETag"] = f'"{record.version}"'
    if request.if_none_match.contains_weak(record.version):
        return Response(status=304, headers=headers)
    return as_json(record.result), headers


@results.delete("/result/<job_id>", endpoint="cancel")
@Operation({200: {JSON: ResultView}, 202: {JSON: ResultView}}, problems=(403, 404, 409, 503))
async def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job: 200 with REVOKED for one that waited, 202 for one that has to be stopped."""
    parts = parts_of(current_app)
    record = await read_job(job_id, Action.CANCEL)
    caller = await caller_of()
    result = await parts.enqueuer.cancel(job_id, by="" if caller is None else caller.id)
    await audit_for_another("cancel", record)
    status = HTTPStatus.OK if result.ready else HTTPStatus.ACCEPTED
    return as_json(result), status, {"Cache-Control": "no-store"}


@results.get("/result/<job_id>/events")
@Operation(
    {200: {EVENTS: None}, 204: {}},
    problems=(404, 503),
    parameters=[
        parameter("Last-Event-ID", "header", "The id of the last event seen.", type="string")
    ],
)
async def events(job_id: str) -> ResponseReturnValue:
    """Every change of a job until it has ended, as server-sent events."""
    parts = parts_of(current_app)
    when_request_ends(hold("streams"))
    follower, record = await follow_job(job_id, interval=parts.settings.heartbeat)
    when_request_ends(follower.close)
    seen = request.headers.get("Last-Event-ID")
    if record.result.ready and seen == record.version:
        # At a 204 a browser's EventSource gives up connecting again.
        return Response(status=204, headers={"Cache-Control": "no-store"})
    return stream(_job_events(follower, record, seen))


async def _at_next_change(job_id: str, seconds: float) -> StoredRecord:
    """The job's record when it is not, or no longer, the one that the client has."""
    with holding("waiters"):
        follower, record = await follow_job(job_id, interval=seconds)
        with closing(follower):
            known = request.if_none_match
            if record.result.ready or (known and not known.contains_weak(record.version)):
                return record
            if await anext(follower, None) is NoChange.LOST:
                raise ResultsUnavailableError("the connection was lost")
            return follower.record(job_id)


async def _job_events(
    follower: Follower, record: StoredRecord, seen: str | None
) -> AsyncIterator[str]:
    yield RETRY
    if seen != record.version:
        yield _job_event(record)
    if record.result.ready:
        return
    async for change in follower:
        if isinstance(change, NoChange):
            yield comment(change.value)
        elif change.record is None:
            detail = str(UnknownJobError(change.job_id))
            yield event({"detail": detail}, name="gone")
            return
        else:
            yield _job_event(change.record)
            if change.record.result.ready:
                return


def _job_event(record: StoredRecord) -> str:
    return event(as_json(record.result), version=record.version)
