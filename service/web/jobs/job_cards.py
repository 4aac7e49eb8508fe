"""The jobs that a page shows, as HTML: asked for once, waited for, or streamed as they change."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final, TypeVar

from quart import Blueprint, Response, current_app, request, stream_with_context
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from service.access.access import Sight, sight
from service.access.policy import Action
from service.errors import InvalidJobIdError, ResultsUnavailableError, UnknownJobError
from service.parts import parts_of
from service.results.follower import Follower, NoChange
from service.results.store import May, StoredRecord
from service.web.http.negotiation import seconds_to_wait, wants_events
from service.web.http.site import render
from service.web.http.streams import RETRY, comment, event, stream, when_request_ends
from service.web.jobs.operators import DetailsByState
from service.web.jobs.views import JobView
from service.web.limits.checks import hold, holding

_Read = TypeVar("_Read")

_MAX_JOBS: Final = 50  # on one page
_TEMPLATES: Final = {"card": "_card.html", "page": "_job.html"}
_EXPIRED: Final = "Its result has expired: nothing is known of this job any more."

job_cards = Blueprint("job_cards", __name__)


@job_cards.get("/jobs", endpoint="show")
async def show_cards() -> ResponseReturnValue:
    """The jobs with these ids (`?id=…&id=…`), each as the HTML that the pages show of it.

    With `wait` and `If-None-Match` it answers at the next change; as an event stream it sends
    each change. `expired` has the jobs that are known no more.
    """
    ids = list(dict.fromkeys(request.args.getlist("id")))
    template = _TEMPLATES.get(request.args.get("view", "card"))
    if len(ids) > _MAX_JOBS or template is None:
        raise BadRequest(
            f"`id` can be given {_MAX_JOBS} times at most; `view` is `card` or `page`."
        )
    may = await sight()
    if wants_events():
        parts = parts_of(current_app)
        when_request_ends(hold("streams"))
        known = await _known(ids, parts.store.glance, may)
        follower = await parts.watcher.follow(*known, interval=parts.settings.heartbeat)
        when_request_ends(follower.close)
        return stream(stream_with_context(_card_events)(ids, follower, template, may))
    wait = seconds_to_wait()
    records = await _read_known(ids, may)
    if wait > 0 and request.if_none_match.contains_weak(_etag(records)):
        await _wait_for_change(records, wait)
        records = await _read_known(ids, may)
    headers = {"Cache-Control": "no-store", "Vary": "Accept", "ETag": f'"{_etag(records)}"'}
    if request.if_none_match.contains_weak(_etag(records)):
        return Response(status=304, headers=headers)
    find = DetailsByState(is_shown=template == _TEMPLATES["page"]).find
    cards = [await _card(each, template, may, await find(each)) for each in records.values()]
    return _card_list(cards, [job_id for job_id in ids if job_id not in records]), headers


async def _read_known(ids: Iterable[str], may: Sight) -> dict[str, StoredRecord]:
    """The records of the jobs that the caller may know of. Raises ResultsUnavailableError."""
    return await _known(ids, parts_of(current_app).store.read, may)


async def _known(
    ids: Iterable[str], read: Callable[[str, May], Awaitable[_Read]], may: Sight
) -> dict[str, _Read]:
    """What `read` gives of the jobs that the caller may know of."""

    async def known(job_id: str) -> dict[str, _Read]:
        with suppress(UnknownJobError, InvalidJobIdError):
            return {job_id: await read(job_id, partial(may, Action.SEE))}
        return {}

    found = await asyncio.gather(*map(known, ids))
    return {job_id: record for each in found for job_id, record in each.items()}


def _etag(records: dict[str, StoredRecord]) -> str:
    names = " ".join(f"{job_id}:{record.version}" for job_id, record in records.items())
    return hashlib.blake2b(names.encode(), digest_size=12).hexdigest()


async def _wait_for_change(records: dict[str, StoredRecord], seconds: float) -> None:
    """Wait until one of the jobs is not as it was, for so many seconds at most."""
    running = {id_: record for id_, record in records.items() if not record.result.ready}
    watcher = parts_of(current_app).watcher
    with (
        holding("waiters"),
        closing(await watcher.follow(*running, interval=seconds)) as follower,
    ):
        if all(record == running[job_id] for job_id, record in follower.records.items()):
            await anext(follower, None)


async def _card_events(
    ids: list[str], follower: Follower, template: str, may: Sight
) -> AsyncIterator[str]:
    yield RETRY
    find = DetailsByState(is_shown=template == _TEMPLATES["page"]).find
    known = {id_ for id_, record in follower.records.items() if may(Action.SEE, record)}
    if expired := [job_id for job_id in ids if job_id not in known]:
        yield event(_card_list([], expired))
    for record in [*follower.records.values()]:
        if record.job_id in known:
            card = await _card(record, template, may, await find(record))
            yield event(_card_list([card]))
    async for change in follower:
        if isinstance(change, NoChange):
            expired = []
            with suppress(ResultsUnavailableError):  # Redis announces to nobody what has expired
                expired = list(known - (await _read_known(known, may)).keys())
            known.difference_update(expired)
            yield event(_card_list([], expired)) if expired else comment(NoChange.QUIET.value)
        elif change.record is not None and change.job_id in known:
            card = await _card(change.record, template, may, await find(change.record))
            yield event(_card_list([card]))


def _card_list(cards: Sequence[dict[str, Any]], expired: Iterable[str] = ()) -> dict[str, Any]:
    return {"jobs": cards, "expired": [{"id": job_id, "words": _EXPIRED} for job_id in expired]}


async def _card(
    record: StoredRecord, template: str, may: Sight, details: object = None
) -> dict[str, Any]:
    shows = may(Action.SEE_ARGUMENTS, record)
    job = JobView(record.result, in_full=template == _TEMPLATES["page"], arguments=shows)
    html = await render(template, job=job, details=details)
    return {
        "id": job.id,
        "state": job.state,
        "ready": job.ready,
        "summary": job.summary,
        "html": html,
    }
