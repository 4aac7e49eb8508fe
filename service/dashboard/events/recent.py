"""The most recent jobs, each as its newest event tells it: to filter, to search and to sort."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec

from service.results.model import TERMINAL, State
from service.signals import JobEvent

PAGE: Final = 50  # jobs

_REMEMBERED: Final = 100  # pages, until the list changes
_DECODER: Final = msgspec.json.Decoder(list[JobEvent])
# How far a job is in a state; in those that are not here it runs, or is about to run again.
_RANK: Final[dict[str, int]] = {State.QUEUED: 0, **dict.fromkeys(TERMINAL, 2)}
_RUNNING: Final = 1
_STATES_OF: Final = {"STARTED": {"STARTED", "PROGRESS"}}


def decode_events(stored: bytes) -> list[JobEvent]:
    """Read events; none if they cannot be read, such as those of another version of the service."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError:
        return []


def newer(old: JobEvent, new: JobEvent) -> JobEvent:
    """Which of two events of one job tells the present: a job that has ended stays ended."""
    before, after = _RANK.get(old.state, _RUNNING), _RANK.get(new.state, _RUNNING)
    event, other = (old, new) if (after, new.at) < (before, old.at) else (new, old)
    if event.queued_at is None and other.queued_at is not None:
        return msgspec.structs.replace(event, queued_at=other.queued_at)
    return event


def _began_at(event: JobEvent) -> float:
    """When the job came into being, as far as is known."""
    return event.queued_at or event.started_at or event.at


# By what the list is sorted.
_VALUES: Final[dict[str, Callable[[JobEvent], Any]]] = {
    "task": attrgetter("task"),
    "state": attrgetter("state"),
    "worker": attrgetter("worker"),
    "queued": _began_at,
    "started": attrgetter("started_at"),
    "run": attrgetter("ran_for"),
    "id": attrgetter("id"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What to show of the list; `page` counts from 1."""

    state: str = ""
    search: str = ""
    sort: str = "queued"
    descending: bool = True
    page: int = 1


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of the jobs that were found, and how many there are."""

    jobs: tuple[JobEvent, ...]
    found: int
    pages: int
    number: int


class RecentJobs:
    """At most `keep` jobs; the list forgets first those that came into being first.

    Many ask the same of it every second, so the order and each page are worked out once.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._jobs: dict[str, JobEvent] = {}
        self._texts: dict[str, str] = {}  # by id, what a search looks at; made when one does
        self._newest_first: list[JobEvent] | None = None
        self._pages: dict[Query, JobPage] = {}

    def __len__(self) -> int:
        return min(len(self._jobs), self._keep)

    def add(self, events: Iterable[JobEvent]) -> None:
        """Take in events, oldest first."""
        for event in events:
            known = self._jobs.get(event.id)
            self._jobs[event.id] = event if known is None else newer(known, event)
            self._texts.pop(event.id, None)
            self._newest_first = None

    def unfinished(self) -> list[JobEvent]:
        """The jobs that have not ended, as far as is known here."""
        return [job for job in self._in_order() if job.state not in TERMINAL]

    def find(self, query: Query) -> JobPage:
        """What fits the query, sorted; where values are equal or missing, the newest first."""
        in_order = self._in_order()  # first, because it may forget the pages
        page = self._pages.get(query)
        if page is None:
            if len(self._pages) >= _REMEMBERED:
                self._pages.clear()
            jobs = self._sorted(in_order, query)
            pages = max(1, -(-len(jobs) // PAGE))
            number = min(max(1, query.page), pages)
            shown = tuple(jobs[(number - 1) * PAGE : number * PAGE])
            page = self._pages[query] = JobPage(shown, len(jobs), pages, number)
        return page

    def _sorted(self, jobs: list[JobEvent], query: Query) -> list[JobEvent]:
        if query.state:
            states = _STATES_OF.get(query.state, {query.state})
            jobs = [job for job in jobs if job.state in states]
        for word in query.search.lower().split():
            jobs = [job for job in jobs if word in self._text_of(job)]
        if query.sort == "queued" and query.descending:
            return jobs
        value = _VALUES[query.sort]
        have = [job for job in jobs if value(job) is not None]
        lack = [job for job in jobs if value(job) is None]
        return sorted(have, key=value, reverse=query.descending) + lack

    def _text_of(self, job: JobEvent) -> str:
        text = self._texts.get(job.id)
        if text is None:
            text = self._texts[job.id] = f"{job.task}\n{job.worker or ''}\n{job.id}".lower()
        return text

    def _in_order(self) -> list[JobEvent]:
        """The jobs that are kept, the newest first."""
        if self._newest_first is None:
            jobs = sorted(self._jobs.values(), key=_began_at, reverse=True)
            for job in jobs[self._keep :]:
                del self._jobs[job.id]
                self._texts.pop(job.id, None)
            self._newest_first = jobs[: self._keep]
            self._pages.clear()
        return self._newest_first
