"""What is going on, for whoever runs the service: read by one reader, pushed to all who look."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from quart import (
    Blueprint,
    Quart,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
    stream_with_context,
)
from quart.typing import ResponseReturnValue

from service.broker.dead_letters import box_for
from service.jobs.celery_app import get_celery
from service.monitor.reader import INTERVAL, Places, QueueKeys, Reader
from service.monitor.recent import COLUMNS, Query
from service.results.connection import get_broker_redis, get_redis
from service.results.model import State
from service.results.store import get_results
from service.settings import get_settings
from service.web import charts
from service.web.admin import require_admin
from service.web.negotiation import wants_events
from service.web.streams import EVENT_HEADERS, RETRY, get_stopping

_EXTENSION: Final = "service.dashboard"
_FRAGMENTS: Final = ("summary", "workers", "queues", "tasks", "jobs", "pager")
_LONGEST_SEARCH: Final = 200  # characters
_STATES: Final = tuple(state.value for state in State if state is not State.PROGRESS)

dashboard = Blueprint("dashboard", __name__, url_prefix="/dashboard")
dashboard.before_request(require_admin)


@dashboard.get("")
async def show() -> ResponseReturnValue:
    """The dashboard; `state`, `q`, `sort`, `order` and `page` choose among the recent jobs."""
    context = await _context(_query())
    page = await render_template(
        "dashboard.html", **context, states=_STATES, columns=_columns(context["query"])
    )
    return page, {"Cache-Control": "no-store"}


@dashboard.get("/news")
async def news() -> ResponseReturnValue:
    """What has changed on the dashboard: once, or as an event stream every second."""
    query = _query()
    if not wants_events():
        return jsonify(await _news(query, {}, since=0)), {"Cache-Control": "no-store"}
    response = Response(stream_with_context(_events)(query), headers=EVENT_HEADERS)
    response.timeout = None  # Quart's own limit would cut the stream
    return response


async def _events(query: Query) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    since = 0
    stopping = get_stopping(current_app)
    yield RETRY
    while not stopping.is_set():
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
    context = await _context(query)
    changed: dict[str, str] = {}
    for name in _FRAGMENTS:
        html = await render_template(f"dashboard/_{name}.html", **context)
        if sent.get(name) != html:
            changed[name] = sent[name] = html
    return {"fragments": changed, "points": charts.points(context["now"], since=since)}


async def _context(query: Query) -> dict[str, Any]:
    reader = get_reader(current_app)
    now = await reader.refresh()
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
    settings = get_settings(app)

    def queues(known: set[str]) -> Sequence[QueueKeys]:
        return queue_keys(app, known)

    app.extensions[_EXTENSION] = Reader(
        get_redis(app),
        Places(queues=queues, record=get_results(app).key, held=_held_key(app)),
        broker=get_broker_redis(app),
        timeout=settings.redis_timeout,
        keep=settings.recent_jobs,
    )


def _held_key(app: Quart) -> str:
    """The hash in which Kombu keeps what workers hold."""
    options = get_settings(app).celery.get("broker_transport_options", {})
    return f"{options.get('global_keyprefix', '')}{options.get('unacked_key', 'unacked')}"


def get_reader(app: Quart) -> Reader:
    """The reader of the app's dashboard."""
    reader: Reader = app.extensions[_EXTENSION]
    return reader


def queue_keys(app: Quart, known: set[str]) -> list[QueueKeys]:
    """Where the jobs of each queue are: those of Celery's settings, and those that are `known`."""
    celery = get_celery(app)
    names = sorted({*celery.amqp.queues, *known})
    box = box_for(celery.conf.broker_transport_options, names)
    return [QueueKeys(name, box.waiting(name), box.key(name)) for name in names]
