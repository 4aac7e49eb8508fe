"""The most recent jobs, in memory: to filter, to search and to sort."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from service.dashboard.events.rows import JobRow, newer

PAGE: Final = 50  # rows

_PAGES: Final = 100  # that are remembered until the list changes
_VALUES: Final[dict[str, Callable[[JobRow], Any]]] = {
    "task": attrgetter("task"),
    "state": attrgetter("state"),
    "worker": attrgetter("worker"),
    "queued": attrgetter("began_at"),
    "started": attrgetter("started_at"),
    "run": attrgetter("ran_for"),
    "id": attrgetter("id"),
}
COLUMNS: Final = tuple(_VALUES)  # to sort by

_STATES_OF: Final = {"STARTED": {"STARTED", "PROGRESS"}}


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody wants to see of the list; `page` counts from 1."""

    state: str = ""
    search: str = ""
    sort: str = "queued"
    descending: bool = True
    page: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what was found, and how much there is."""

    rows: tuple[JobRow, ...]
    found: int
    pages: int
    number: int


class RecentJobs:
    """At most `keep` jobs; of those that came into being first, the list forgets first.

    What is asked of it every second, by many, is worked out once: the order, and each page.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._rows: dict[str, JobRow] = {}
        self._texts: dict[str, str] = {}  # by id, what a search looks at; made when one does
        self._newest_first: list[JobRow] | None = None
        self._pages: dict[Query, Page] = {}

    def __len__(self) -> int:
        return min(len(self._rows), self._keep)

    def get(self, job_id: str) -> JobRow | None:
        """What is known of a job."""
        return self._rows.get(job_id)

    def add(self, rows: Iterable[JobRow]) -> None:
        """Take in what happened to jobs, oldest first."""
        for row in rows:
            self._rows[row.id] = newer(self._rows.get(row.id), row)
            self._texts.pop(row.id, None)
            self._newest_first = None

    def unfinished(self) -> list[JobRow]:
        """The jobs that have not ended, as far as is known here."""
        return [row for row in self._in_order() if not row.ready]

    def find(self, query: Query) -> Page:
        """What fits the query, sorted; where values are equal or missing, the newest first."""
        in_order = self._in_order()  # before looking for a page, which it may make an old one
        page = self._pages.get(query)
        if page is None:
            if len(self._pages) >= _PAGES:
                self._pages.clear()
            page = self._pages[query] = _cut(self._sorted(in_order, query), query.page)
        return page

    def _sorted(self, rows: list[JobRow], query: Query) -> list[JobRow]:
        if query.state:
            states = _STATES_OF.get(query.state, {query.state})
            rows = [row for row in rows if row.state in states]
        for word in query.search.lower().split():
            rows = [row for row in rows if word in self._text_of(row)]
        if query.sort == "queued" and query.descending:
            return rows
        value = _VALUES[query.sort]
        have = [row for row in rows if value(row) is not None]
        lack = [row for row in rows if value(row) is None]
        have.sort(key=value, reverse=query.descending)
        return have + lack

    def _text_of(self, row: JobRow) -> str:
        text = self._texts.get(row.id)
        if text is None:
            text = self._texts[row.id] = f"{row.task}\n{row.worker or ''}\n{row.id}".lower()
        return text

    def _in_order(self) -> list[JobRow]:
        """The jobs that are kept, the newest first."""
        if self._newest_first is None:
            rows = sorted(self._rows.values(), key=_VALUES["queued"], reverse=True)
            for row in rows[self._keep :]:
                del self._rows[row.id]
                self._texts.pop(row.id, None)
            self._newest_first = rows[: self._keep]
            self._pages.clear()
        return self._newest_first


def _cut(rows: list[JobRow], wanted: int) -> Page:
    pages = max(1, -(-len(rows) // PAGE))
    number = min(max(1, wanted), pages)
    start = (number - 1) * PAGE
    return Page(tuple(rows[start : start + PAGE]), len(rows), pages, number)
