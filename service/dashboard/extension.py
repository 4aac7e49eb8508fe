"""All that the dashboard of an app has, in one object under one key of `app.extensions`."""

from contextlib import suppress
from typing import Any, Final

from quart import Quart

from service.dashboard.events.failures import group_id
from service.dashboard.events.reader import Reader
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.events.snapshot import Snapshot
from service.errors import ResultsUnavailableError
from service.parts import Parts, parts_of
from service.web.http.site import render

_EXTENSION: Final = "service.dashboard"
_FOR_ALL: Final = ("banners", "summary", "workers", "queues", "tasks", "failures")
_FOR_QUERY: Final = ("filters", "jobs", "pager")


class Dashboard:
    """The dashboard of an app: its recorder and its reader, and what the page shows of these."""

    def __init__(self, parts: Parts) -> None:
        self.recorder = Recorder(parts.settings)
        self.reader = Reader(parts)
        self._snapshot: Snapshot | None = None
        self._fragments: dict[Query | bool, dict[str, str]] = {}  # bool: for all who see as much

    async def read(self, query: Query) -> Snapshot:
        """What there is now. A search of arguments that Redis does not answer goes without them."""
        now = await self.reader.refresh()
        if query.search and query.in_full:
            with suppress(ResultsUnavailableError):
                await self.reader.read_arguments()
        return now

    def context(self, now: Snapshot, query: Query) -> dict[str, Any]:
        """The variables of the templates."""
        page = self.reader.jobs.find(query)
        return {"now": now, "query": query, "page": page, "group_id": group_id}

    async def render(self, now: Snapshot, query: Query) -> dict[str, str]:
        """Each fragment's HTML by its name: rendered once a reading for all who look at it."""
        if now is not self._snapshot:
            self._snapshot, self._fragments = now, {}
        rendered = self._fragments  # which the next reading replaces, maybe while this one renders
        for key, names in ((query.in_full, _FOR_ALL), (query, _FOR_QUERY)):
            if key not in rendered:
                context = self.context(now, query)
                rendered[key] = {
                    name: await render(f"dashboard/fragments/{name}.html", **context)
                    for name in names
                }
        return rendered[query.in_full] | rendered[query]


def add_dashboard(app: Quart) -> Dashboard:
    """Build the app's dashboard, and give it to the app."""
    dashboard = app.extensions[_EXTENSION] = Dashboard(parts_of(app))
    return dashboard


def dashboard_of(app: Quart) -> Dashboard:
    """The app's dashboard."""
    dashboard: Dashboard = app.extensions[_EXTENSION]
    return dashboard
