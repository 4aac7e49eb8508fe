"""One job's result: asked for once, waited for, followed, or no longer wanted."""

import math
from http import HTTPStatus
from typing import Final

from quart import Blueprint, Response, current_app, jsonify, render_template, request
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from service.jobs.sending.cancel import cancel as cancel_job
from service.parts import parts_of
from service.results.record import decode, version
from service.web.http.negotiation import EVENTS, HTML, JSON, wants_events, wants_page
from service.web.http.openapi import Operation, documented, parameter
from service.web.jobs.events import stream_events
from service.web.jobs.job_json import as_json
from service.web.jobs.timeline import tell

LONGEST_WAIT: Final = 60.0  # seconds
_POLL_AFTER: Final = "1"  # seconds

results = Blueprint("results", __name__)


@results.get("/result/<job_id>")
@documented(
    Operation(
        answers={
            200: {JSON: "Result", HTML: None, EVENTS: None},
            204: {},
            304: {},
        },
        problems=(400, 404, 503),
        parameters=[
            parameter(
                "wait",
                "query",
                "Seconds to wait for a change at most.",
                type="number",
                minimum=0,
                maximum=LONGEST_WAIT,
            ),
            parameter("If-None-Match", "header", "The ETag of what is known.", type="string"),
        ],
    )
)
async def show(job_id: str) -> ResponseReturnValue:
    """How far a job is: 200 also for one that failed, 404 for one that nobody enqueued.

    `?wait=SECONDS` answers at the next change, or when the time is up. With `If-None-Match` the
    change counts from what the client has.
    """
    if wants_events():
        return await stream_events(job_id)
    seconds = seconds_to_wait()
    if seconds:
        stored = await _at_next_change(job_id, seconds)
    else:
        stored = await parts_of(current_app).store.read(job_id)
    result = decode(job_id, stored)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if not result.ready:
        headers["Retry-After"] = _POLL_AFTER
    if wants_page() and request.args.get("format") != "json":
        return await render_template("result.html", job=tell(result, in_full=True)), headers
    headers["ETag"] = f'"{version(stored)}"'
    if request.if_none_match.contains_weak(version(stored)):
        return Response(status=304, headers=headers)
    return jsonify(as_json(result)), headers


@results.delete("/result/<job_id>")
@documented(
    Operation(answers={200: {JSON: "Result"}, 202: {JSON: "Result"}}, problems=(404, 409, 503))
)
async def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel a job: 200 with REVOKED for one that waited, 202 for one that has to be stopped."""
    parts = parts_of(current_app)
    result = await cancel_job(parts.store, parts.enqueuer, job_id)
    status = HTTPStatus.OK if result.ready else HTTPStatus.ACCEPTED
    return as_json(result), status, {"Cache-Control": "no-store"}


@results.get("/result/<job_id>/events")
@documented(
    Operation(
        answers={200: {EVENTS: None}, 204: {}},
        problems=(404, 503),
        parameters=[
            parameter("Last-Event-ID", "header", "The id of the last event seen.", type="string")
        ],
    )
)
async def events(job_id: str) -> ResponseReturnValue:
    """Every change of a job until it has ended, as server-sent events."""
    return await stream_events(job_id)


async def _at_next_change(job_id: str, seconds: float) -> bytes:
    watch = await parts_of(current_app).watcher.watch(job_id)
    try:
        has = request.if_none_match
        if not watch.result.ready and (not has or has.contains_weak(version(watch.stored))):
            await watch.change(seconds)
        return watch.stored
    finally:
        watch.close()


def seconds_to_wait() -> float:
    """What the request says by `?wait=`. Raises BadRequest."""
    text = request.args.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WAIT:
        raise BadRequest(f"`wait` is a number of seconds from 0 to {LONGEST_WAIT:g}.")
    return seconds
