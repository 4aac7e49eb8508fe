"""What is going on, for whoever runs the service: read by one reader, pushed to all who look."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from quart import (
    Blueprint,
    Quart,
    current_app,
    jsonify,
    render_template,
    request,
    stream_with_context,
)
from quart.typing import ResponseReturnValue

from service.broker.dead_letters.model import box_for
from service.dashboard.events.reader import INTERVAL, Places, QueueKeys, Reader
from service.dashboard.events.recent import COLUMNS, Query
from service.dashboard.events.snapshot import Snapshot
from service.dashboard.pages import figures as charts
from service.dashboard.pages.sign_in import is_admin, require_admin
from service.parts import get_celery, parts_of
from service.results.model import State
from service.web.http.negotiation import wants_events
from service.web.http.streams import RETRY, get_stopping, stream

_EXTENSION: Final = "service.dashboard"
_PARTS: Final = "service.dashboard.parts"
# Parts that any who look are shown.
_FOR_ALL: Final = ("banners", "summary", "workers", "queues", "tasks")
_FOR_QUERY: Final = ("jobs", "pager")
_LONGEST_SEARCH: Final = 200  # characters
_STATES: Final = tuple(state.value for state in State if state is not State.PROGRESS)

dashboard = Blueprint("dashboard", __name__, url_prefix="/dashboard")
dashboard.before_request(require_admin)


@dashboard.get("")
async def show() -> ResponseReturnValue:
    """The dashboard; `state`, `q`, `sort`, `order` and `page` choose among the recent jobs."""
    query = _query()
    context = _context(await get_reader(current_app).refresh(), query)
    page = await render_template(
        "dashboard.html", **context, states=_STATES, columns=_columns(query)
    )
    return page, {"Cache-Control": "no-store"}


@dashboard.get("/news")
async def news() -> ResponseReturnValue:
    """What has changed on the dashboard: once, or as an event stream every second."""
    query = _query()
    if not wants_events():
        return jsonify(await _news(query, {}, since=0)), {"Cache-Control": "no-store"}
    return stream(stream_with_context(_events)(query))


async def _events(query: Query) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    since = 0
    stopping = get_stopping(current_app)
    yield RETRY
    while not stopping.is_set() and is_admin():
        changed = await _news(query, sent, since=since)
        if changed["points"]:
            since = changed["points"][-1][0]
        yield f"data: {json.dumps(changed)}\n\n"
        try:
            async with asyncio.timeout(INTERVAL):
                await stopping.wait()
        except TimeoutError:
            continue


async def _news(query: Query, sent: dict[str, str], *, since: int) -> dict[str, Any]:
    """The parts of the page that differ from what was `sent`, which is brought up to date."""
    now = await get_reader(current_app).refresh()
    parts = await get_parts(current_app).show(now, query)
    changed = {name: html for name, html in parts.items() if sent.get(name) != html}
    sent |= changed
    return {"fragments": changed, "points": charts.points(now, since=since)}


class Parts:
    """The parts of the page as HTML, made once a reading for all who look at the same."""

    def __init__(self) -> None:
        self._now: Snapshot | None = None
        self._made: dict[Query | None, dict[str, str]] = {}

    async def show(self, now: Snapshot, query: Query) -> dict[str, str]:
        """Each part's HTML by its name."""
        if now is not self._now:
            self._now, self._made = now, {}
        made = self._made
        if None not in made or query not in made:
            context = _context(now, query)
            if None not in made:
                made[None] = await _render(_FOR_ALL, context)
            made[query] = await _render(_FOR_QUERY, context)
        return made[None] | made[query]


async def _render(names: Sequence[str], context: dict[str, Any]) -> dict[str, str]:
    return {name: await render_template(f"dashboard/_{name}.html", **context) for name in names}


def _context(now: Snapshot, query: Query) -> dict[str, Any]:
    reader = get_reader(current_app)
    return {
        "now": now,
        "query": query,
        "page": reader.jobs.find(query),
        "figures": charts.figures(now),
        "tasks": charts.tasks(now),
    }


def _query() -> Query:
    given = request.args
    sort = given.get("sort", "queued")
    state = given.get("state", "")
    return Query(
        state=state if state in _STATES else "",
        search=given.get("q", "")[:_LONGEST_SEARCH],
        sort=sort if sort in COLUMNS else "queued",
        descending=given.get("order", "desc") != "asc",
        page=max(1, given.get("page", 1, type=int)),
    )


def _columns(query: Query) -> list[dict[str, Any]]:
    """The list's columns, each with the order that a click on its head asks for."""
    titles = {
        "task": "Task",
        "state": "State",
        "worker": "Worker",
        "queued": "Queued",
        "started": "Started",
        "run": "Run time",
        "id": "Id",
    }
    return [
        {
            "name": name,
            "title": titles[name],
            "sorted": ("descending" if query.descending else "ascending")
            if name == query.sort
            else "",
            "next": "asc" if name == query.sort and query.descending else "desc",
        }
        for name in COLUMNS
    ]


def init_dashboard(app: Quart) -> None:
    """Give the app its one reader."""
    settings = parts_of(app).settings

    def queues(known: set[str]) -> Sequence[QueueKeys]:
        return queue_keys(app, known)

    app.extensions[_PARTS] = Parts()
    places = Places(
        own=parts_of(app).keys,
        queues=queues,
        record=parts_of(app).keys.record,
        held=_held_key(app),
    )
    app.extensions[_EXTENSION] = Reader(
        parts_of(app).redis,
        places,
        broker=parts_of(app).broker_redis,
        timeout=settings.redis_timeout,
        keep=settings.recent_jobs,
    )


def _held_key(app: Quart) -> str:
    """The hash in which Kombu keeps what workers hold."""
    options = parts_of(app).settings.celery.get("broker_transport_options", {})
    return f"{options.get('global_keyprefix', '')}{options.get('unacked_key', 'unacked')}"


def get_reader(app: Quart) -> Reader:
    """The reader of the app's dashboard."""
    reader: Reader = app.extensions[_EXTENSION]
    return reader


def get_parts(app: Quart) -> Parts:
    """What the app's dashboard shows at the moment, as HTML."""
    parts: Parts = app.extensions[_PARTS]
    return parts


def queue_keys(app: Quart, known: set[str]) -> list[QueueKeys]:
    """Where the jobs of each queue are: those of Celery's settings, and those that are `known`."""
    celery = get_celery(app)
    names = sorted({*celery.amqp.queues, *known})
    box = box_for(celery.conf.broker_transport_options, names)
    return [QueueKeys(name, box.waiting(name), box.key(name)) for name in names]
