"""What a job has logged and printed: its newest lines for its page, and all of it as text."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from quart import Blueprint, current_app, request, stream_with_context
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.access.access import access_of, read_job
from service.access.policy import Action
from service.dashboard.pages.job.attempts import attempts_of
from service.dashboard.pages.job.log_lines import MOST, as_text, read_rows
from service.dashboard.pages.sign_in import require
from service.errors import ResultsUnavailableError, UnknownJobError
from service.parts import parts_of
from service.redis.deadline import Deadline
from service.results.decoding import record_fields
from service.results.job_log import START
from service.results.store import StoredRecord
from service.web.http.negotiation import wants_events
from service.web.http.site import render
from service.web.http.streams import RETRY, comment, event, stream, when_request_ends
from service.web.limits.checks import hold

_INTERVAL: Final = 0.5  # seconds between two readings
_LATE: Final = 3.0  # seconds after a job's end until its last lines are surely there
_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}

job_logs = Blueprint("job_logs", __name__)
job_logs.before_request(require(Action.OPERATE))


@job_logs.get("/<job_id>/log")
async def show(job_id: str) -> ResponseReturnValue:
    """The log of one attempt (`attempt=2`), or of the present one, as text.

    With `after`, what a page shows besides: the lines after that place as HTML, once or as an event
    stream, beginning with those of another attempt than `attempt` if that is the present one.
    """
    record = await read_job(job_id, Action.SEE_OUTPUT)
    if wants_events():
        when_request_ends(hold("streams"))
        return stream(stream_with_context(_log_events)(job_id, *_what_is_shown()))
    if "after" in request.args:
        return await _news(record, *_what_is_shown()), _HEADERS
    parts, number = parts_of(current_app), request.args.get("attempt", type=int)
    started_at = record.result.started_at
    if number is not None:
        attempts = await attempts_of(parts, record, record_fields(record.data))
        found = next((each for each in attempts if each.number == number), None)
        if found is None:
            raise NotFound("Nothing is known of this attempt.")
        started_at = found.started_at
    rows, part = await read_rows(parts, job_id, started_at)
    text = ("(the beginning is not kept)\n" if part.is_cut else "") + as_text(rows)
    return text, {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"}


def _what_is_shown() -> tuple[int, str]:
    """The attempt that a page shows, and the place up to which it shows its log."""
    after = request.args.get("after", START)
    is_place = all(each.isdigit() and each.isascii() for each in after.split("-", 1))
    return request.args.get("attempt", 0, type=int), after if is_place else START


async def _log_events(job_id: str, attempt: int, after: str) -> AsyncIterator[str]:
    """News until nothing more can come, or the caller may not see them any more."""
    parts = parts_of(current_app)
    stopping, told_at = parts.watcher.stopping, time.monotonic()
    yield RETRY
    while not stopping.is_set():
        if time.monotonic() - told_at > parts.settings.heartbeat:
            if not await _may_still_see(job_id):
                return
            told_at = time.monotonic()
            yield comment("quiet")
        with suppress(ResultsUnavailableError):
            try:
                record = await parts.store.read(job_id)
            except UnknownJobError:
                return
            news = await _news(record, attempt, after)
            if news["html"] or news["over"] or news["attempt"] != attempt:
                attempt, after = news["attempt"], news["after"]
                yield event(news)
            if news["over"]:
                return
        with suppress(TimeoutError):
            async with Deadline(_INTERVAL):
                await stopping.wait()


async def _may_still_see(job_id: str) -> bool:
    access = access_of(current_app)
    caller = await access.find_caller(request)
    with suppress(UnknownJobError, ResultsUnavailableError):
        record = await parts_of(current_app).store.read(job_id)
        return access.may_do(caller, Action.OPERATE) and all(
            access.may(caller, action, record) for action in (Action.SEE, Action.SEE_OUTPUT)
        )
    return False


async def _news(record: StoredRecord, attempt: int, after: str) -> dict[str, Any]:
    """The lines that a page lacks, as HTML; `over` where no more are to come."""
    result = record.result
    if result.attempt != attempt:
        after = START
    rows, part = await read_rows(parts_of(current_app), record.job_id, result.started_at, after)
    html = ""
    if rows:
        html = await render("job/_log_rows.html", rows=rows[-MOST:])
    ended_at = result.finished_at.timestamp() if result.finished_at else 0.0
    return {
        "attempt": result.attempt,
        "html": html,
        "after": part.after,
        "over": result.ready and time.time() - ended_at > _LATE,
    }
