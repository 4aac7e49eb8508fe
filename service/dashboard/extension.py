"""All that the dashboard of an app has, in one object under one key of `app.extensions`."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from quart import Quart

from service.broker.pauses import can_pause
from service.dashboard.events.failures import group_id
from service.dashboard.events.history import Chart
from service.dashboard.events.lanes import Grouping, Lane, lanes_of
from service.dashboard.events.reader import Reader
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.events.snapshot import Snapshot
from service.errors import ResultsUnavailableError
from service.parts import Parts, parts_of
from service.web.http.site import render
from service.web.http.streams import event

_EXTENSION: Final = "service.dashboard"
_FOR_ALL: Final = ("banners", "summary", "workers", "queues", "tasks", "failures", "lanes")
_FOR_QUERY: Final = ("spans", "groupings", "filters", "jobs", "pager")
_Fragments: TypeAlias = dict[str, str]  # HTML by name


class Content:
    """What the page shows at one moment to all who ask for the same."""

    def __init__(self, at: float, fragments: dict[str, str], chart: Chart) -> None:
        self._at = at
        self._fragments = fragments
        self._chart = chart
        self._events: dict[Content | None, str] = {}

    def since(self, old: "Content | None") -> dict[str, Any]:
        """What is new to whoever was shown the old content."""
        known = {} if old is None else old._fragments  # noqa: SLF001  of its own class
        changed = {name: html for name, html in self._fragments.items() if known.get(name) != html}
        chart = self._chart.since(None if old is None else old._chart)  # noqa: SLF001
        return {"at": self._at, "fragments": changed, "chart": chart}

    def event_since(self, old: "Content | None") -> str:
        """The same as the text of an event: made once, as nearly all have seen the same before."""
        if old is self:
            return ""
        if old not in self._events:
            self._events[old] = event(self.since(old))
        return self._events[old]

    def forget(self) -> None:
        """Let go of what was shown before."""
        self._events.clear()


class Dashboard:
    """The dashboard of an app: its recorder and its reader, and what the page shows of these."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.recorder = Recorder(parts.settings)
        self.reader = Reader(parts)
        self._snapshot: Snapshot | None = None
        # What was rendered of the snapshot, or is being rendered, for all who wait for it. The
        # fragments for all are kept by a query that has only those fields which they read.
        self._for_all: dict[Query, asyncio.Task[_Fragments]] = {}
        self._contents: dict[Query, asyncio.Task[Content]] = {}

    async def read(self, query: Query) -> Snapshot:
        """What there is now. A search of arguments that Redis does not answer goes without them."""
        now = await self.reader.refresh()
        if query.search and query.in_full:
            with suppress(ResultsUnavailableError):
                await self.reader.read_arguments()
        return now

    def context(self, now: Snapshot, query: Query) -> dict[str, Any]:
        """The variables of the templates."""
        return {
            "now": now,
            "query": query,
            "page": self.reader.jobs.find(query),
            "group_id": group_id,
            "can_pause": can_pause(self._parts.celery.get().conf),
            "lanes": partial(self._lanes, now, query.lanes),  # worked out by whoever shows them
        }

    def _lanes(self, now: Snapshot, by: Grouping) -> tuple[tuple[Lane, ...], int]:
        return lanes_of(self.reader.jobs.with_worker(), now.workers, now.at, by)

    async def content(self, query: Query) -> Content:
        """What the page shows now: rendered once a reading for all who look at the same."""
        now = await self.read(query)
        if now is not self._snapshot:
            for task in self._contents.values():
                if task.done() and not task.cancelled() and task.exception() is None:
                    task.result().forget()
            self._snapshot, self._for_all, self._contents = now, {}, {}
        shared = Query(in_full=query.in_full, may_operate=query.may_operate, lanes=query.lanes)
        if shared not in self._for_all:
            rendering = _render(_FOR_ALL, self.context(now, shared))
            self._for_all[shared] = asyncio.create_task(rendering)
        if query not in self._contents:
            made = self._make(now, query, self._for_all[shared])
            self._contents[query] = asyncio.create_task(made)
        return await asyncio.shield(self._contents[query])  # others wait for it, too

    async def _make(
        self, now: Snapshot, query: Query, for_all: "asyncio.Task[_Fragments]"
    ) -> Content:
        of_query = await _render(_FOR_QUERY, self.context(now, query))
        chart = self.reader.history.chart(query.span, task=query.task, queue=query.queue)
        return Content(now.at, {**await for_all, **of_query}, chart)


async def _render(names: tuple[str, ...], context: Mapping[str, Any]) -> _Fragments:
    return {name: await render(f"dashboard/fragments/{name}.html", **context) for name in names}


def add_dashboard(app: Quart) -> Dashboard:
    """Build the app's dashboard, and give it to the app."""
    dashboard = app.extensions[_EXTENSION] = Dashboard(parts_of(app))
    return dashboard


def dashboard_of(app: Quart) -> Dashboard:
    """The app's dashboard."""
    dashboard: Dashboard = app.extensions[_EXTENSION]
    return dashboard
