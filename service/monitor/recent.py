"""The most recent jobs, in memory: to filter, to search and to sort."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from service.monitor.rows import JobRow, newer

COLUMNS: Final = ("task", "state", "worker", "queued", "started", "run", "id")
PAGE: Final = 50  # rows

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
    """At most `keep` jobs; of those that came into being first, the list forgets first."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._rows: dict[str, JobRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, job_id: str) -> JobRow | None:
        """What is known of a job."""
        return self._rows.get(job_id)

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()

    def add(self, rows: Iterable[JobRow]) -> None:
        """Take in what happened to jobs, oldest first."""
        for row in rows:
            self._rows[row.id] = newer(self._rows.get(row.id), row)
        if len(self._rows) > self._keep:
            oldest = sorted(self._rows.values(), key=lambda row: row.began_at)
            for row in oldest[: len(self._rows) - self._keep]:
                del self._rows[row.id]

    def unfinished(self) -> list[JobRow]:
        """The jobs that have not ended, as far as is known here."""
        return [row for row in self._rows.values() if not row.ready]

    def find(self, query: Query) -> Page:
        """What fits the query, sorted; where values are equal or missing, the newest first."""
        words = query.search.lower().split()
        states = _STATES_OF.get(query.state, {query.state})
        found = [
            row
            for row in self._rows.values()
            if (not query.state or row.state in states) and _fits(row, words)
        ]
        found.sort(key=lambda row: row.began_at, reverse=True)
        if query.sort in COLUMNS:
            have = [row for row in found if _value(row, query.sort) is not None]
            lack = [row for row in found if _value(row, query.sort) is None]
            have.sort(key=lambda row: _value(row, query.sort), reverse=query.descending)
            found = have + lack
        pages = max(1, -(-len(found) // PAGE))
        number = min(max(1, query.page), pages)
        start = (number - 1) * PAGE
        return Page(tuple(found[start : start + PAGE]), len(found), pages, number)


def _fits(row: JobRow, words: list[str]) -> bool:
    if not words:
        return True
    text = f"{row.task}\n{row.worker or ''}\n{row.id}".lower()
    return all(word in text for word in words)


def _value(row: JobRow, column: str) -> Any:
    match column:
        case "queued":
            return row.began_at
        case "started":
            return row.started_at
        case "run":
            return row.ran_for
        case _:
            return getattr(row, column)
