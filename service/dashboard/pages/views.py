"""The dashboard, and its updates: read by one reader, pushed to all who look."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from quart import Blueprint, current_app, render_template, request, stream_with_context
from quart.typing import ResponseReturnValue

from service.dashboard.events.reader import INTERVAL
from service.dashboard.events.recent import Query
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import is_admin, require_admin
from service.parts import parts_of
from service.results.model import State
from service.web.http.negotiation import wants_events
from service.web.http.streams import RETRY, event, stream

_MAX_SEARCH: Final = 200  # characters
_STATES: Final = tuple(state.value for state in State if state is not State.PROGRESS)
_COLUMNS: Final = {
    "task": "Task",
    "state": "State",
    "worker": "Worker",
    "queued": "Queued",
    "started": "Started",
    "run": "Run time",
    "id": "Id",
}

dashboard = Blueprint("dashboard", __name__, url_prefix="/dashboard")
dashboard.before_request(require_admin)


@dashboard.get("")
async def show() -> ResponseReturnValue:
    """The dashboard; `state`, `q`, `sort`, `order` and `page` choose among the recent jobs."""
    own = dashboard_of(current_app)
    context = own.context(await own.reader.refresh(), _query())
    page = await render_template(
        "dashboard/dashboard.html", **context, states=_STATES, columns=_COLUMNS
    )
    return page, {"Cache-Control": "no-store"}


@dashboard.get("/news")
async def updates() -> ResponseReturnValue:
    """What has changed on the dashboard: once, or as an event stream every second."""
    query = _query()
    if not wants_events():
        return await _update(query, {}, since=0), {"Cache-Control": "no-store"}
    return stream(stream_with_context(_events)(query))


async def _events(query: Query) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    since = 0
    stopping = parts_of(current_app).watcher.stopping
    yield RETRY
    while not stopping.is_set() and is_admin():
        update = await _update(query, sent, since=since)
        if update["points"]:
            since = update["points"][-1][0]
        yield event(update)
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL):
                await stopping.wait()


async def _update(query: Query, sent: dict[str, str], *, since: int) -> dict[str, Any]:
    """The fragments that differ from those `sent`, which is brought up to date, and new points."""
    own = dashboard_of(current_app)
    now = await own.reader.refresh()
    fragments = await own.render(now, query)
    changed = {name: html for name, html in fragments.items() if sent.get(name) != html}
    sent |= changed
    return {"fragments": changed, "points": now.rows(since=since)}


def _query() -> Query:
    given = request.args
    sort = given.get("sort", "queued")
    state = given.get("state", "")
    return Query(
        state=state if state in _STATES else "",
        search=given.get("q", "")[:_MAX_SEARCH],
        sort=sort if sort in _COLUMNS else "queued",
        descending=given.get("order", "desc") != "asc",
        page=max(1, given.get("page", 1, type=int)),
    )
