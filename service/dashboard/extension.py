"""All that the dashboard of an app has, in one object under one key of `app.extensions`."""

from typing import Any, Final

from quart import Quart, render_template

from service.dashboard.events.reader import Reader
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.events.snapshot import Snapshot
from service.parts import Parts, parts_of

_EXTENSION: Final = "service.dashboard"
_FOR_ALL: Final = ("banners", "summary", "workers", "queues", "tasks")
_FOR_QUERY: Final = ("jobs", "pager")


class Dashboard:
    """The dashboard of an app: its recorder and its reader, and what the page shows of these."""

    def __init__(self, parts: Parts) -> None:
        self.recorder = Recorder(parts.settings)
        self.reader = Reader(parts)
        self._snapshot: Snapshot | None = None
        self._fragments: dict[Query | None, dict[str, str]] = {}  # None: the same for all queries

    def context(self, now: Snapshot, query: Query) -> dict[str, Any]:
        """The variables of the templates."""
        return {"now": now, "query": query, "page": self.reader.jobs.find(query)}

    async def render(self, now: Snapshot, query: Query) -> dict[str, str]:
        """Each fragment's HTML by its name: rendered once a reading for all who look at it."""
        if now is not self._snapshot:
            self._snapshot, self._fragments = now, {}
        rendered = self._fragments  # which the next reading replaces, maybe while this one renders
        for key, names in ((None, _FOR_ALL), (query, _FOR_QUERY)):
            if key not in rendered:
                context = self.context(now, query)
                rendered[key] = {
                    name: await render_template(f"dashboard/_{name}.html", **context)
                    for name in names
                }
        return rendered[None] | rendered[query]


def add_dashboard(app: Quart) -> Dashboard:
    """Build the app's dashboard, and give it to the app."""
    dashboard = app.extensions[_EXTENSION] = Dashboard(parts_of(app))
    return dashboard


def dashboard_of(app: Quart) -> Dashboard:
    """The app's dashboard."""
    dashboard: Dashboard = app.extensions[_EXTENSION]
    return dashboard
