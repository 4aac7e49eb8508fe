"""The dashboard, and its updates: read by one reader, pushed to all who look."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress

from quart import Blueprint, current_app, request, stream_with_context
from quart.typing import ResponseReturnValue

from service.access.access import access_of
from service.access.policy import Action
from service.dashboard.events.reader import INTERVAL
from service.dashboard.events.recent import Query
from service.dashboard.extension import Content, dashboard_of
from service.dashboard.pages.queries import COLUMNS, STATES, query_of
from service.dashboard.pages.sign_in import require
from service.parts import parts_of
from service.redis.deadline import Deadline
from service.web.http.negotiation import wants_events
from service.web.http.site import render
from service.web.http.streams import RETRY, stream, when_request_ends
from service.web.limits.checks import hold

dashboard = Blueprint("dashboard", __name__)
dashboard.before_request(require(Action.WATCH))


@dashboard.get("")
async def show() -> ResponseReturnValue:
    """The dashboard; the address says which of the recent jobs it shows, as in queries.py."""
    own, query = dashboard_of(current_app), await query_of()
    context = own.context(await own.read(query), query)
    done, number = request.args.get("done", ""), request.args.get("number", 0, type=int)
    page = await render(
        "dashboard/dashboard.html",
        **context,
        states=STATES,
        columns=COLUMNS,
        done=done,
        number=number,
    )
    return page, {"Cache-Control": "no-store"}


@dashboard.get("/failures")
async def failures() -> ResponseReturnValue:
    """All failures of the last days, grouped by error and place."""
    own, query = dashboard_of(current_app), await query_of()
    context = own.context(await own.read(query), query)
    page = await render("dashboard/failures.html", **context)
    return page, {"Cache-Control": "no-store"}


@dashboard.get("/news")
async def updates() -> ResponseReturnValue:
    """What has changed on the dashboard: once, or as an event stream every second."""
    query = await query_of()
    if not wants_events():
        content = await dashboard_of(current_app).content(query)
        return content.since(None), {"Cache-Control": "no-store"}
    when_request_ends(hold("streams"))
    return stream(stream_with_context(_events)(query))


async def _events(query: Query) -> AsyncIterator[str]:
    shown: Content | None = None
    parts, access = parts_of(current_app), access_of(current_app)
    stopping, asked_at = parts.watcher.stopping, time.monotonic()
    yield RETRY
    while not stopping.is_set():
        if time.monotonic() - asked_at > parts.settings.heartbeat:  # the role may have been taken
            if not access.may_do(await access.find_caller(request), Action.WATCH):
                return
            asked_at = time.monotonic()
        now = await dashboard_of(current_app).content(query)
        if text := now.event_since(shown):
            yield text
        shown = now
        with suppress(TimeoutError):
            async with Deadline(INTERVAL):
                await stopping.wait()
