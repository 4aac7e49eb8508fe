"""All that the dashboard of an app has, in one frozen object under one key of `app.extensions`."""

from dataclasses import dataclass
from typing import Any, Final

from quart import Quart, render_template

from service.dashboard.events.figures import figures, task_figures
from service.dashboard.events.reader import Reader
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.events.snapshot import Snapshot
from service.parts import parts_of

_EXTENSION: Final = "service.dashboard"
_FOR_ALL: Final = ("banners", "summary", "workers", "queues", "tasks")
_FOR_QUERY: Final = ("jobs", "pager")


class Fragments:
    """The parts of the page as HTML, rendered once a reading for all who look at the same."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._snapshot: Snapshot | None = None
        self._rendered: dict[Query | None, dict[str, str]] = {}  # None: the same for all queries

    def context(self, now: Snapshot, query: Query) -> dict[str, Any]:
        """The variables of the templates."""
        return {
            "now": now,
            "query": query,
            "page": self._reader.jobs.find(query),
            "figures": figures(now),
            "tasks": task_figures(now),
        }

    async def render(self, now: Snapshot, query: Query) -> dict[str, str]:
        """Each fragment's HTML by its name."""
        if now is not self._snapshot:
            self._snapshot, self._rendered = now, {}
        rendered = self._rendered  # which the next reading replaces, maybe while this one renders
        for key, names in ((None, _FOR_ALL), (query, _FOR_QUERY)):
            if key not in rendered:
                context = self.context(now, query)
                rendered[key] = {
                    name: await render_template(f"dashboard/_{name}.html", **context)
                    for name in names
                }
        return rendered[None] | rendered[query]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the dashboard of an app has."""

    recorder: Recorder
    reader: Reader
    fragments: Fragments


def add_dashboard(app: Quart) -> Dashboard:
    """Build the app's dashboard, and give it to the app."""
    parts = parts_of(app)
    reader = Reader(parts)
    dashboard = Dashboard(Recorder(parts.settings), reader, Fragments(reader))
    app.extensions[_EXTENSION] = dashboard
    return dashboard


def dashboard_of(app: Quart) -> Dashboard:
    """The app's dashboard."""
    dashboard: Dashboard = app.extensions[_EXTENSION]
    return dashboard
