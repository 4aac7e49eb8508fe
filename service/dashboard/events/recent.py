"""The most recent jobs, each as its newest event tells it: to filter, to search and to sort."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import msgspec

from service.dashboard.events.failures import group_id
from service.dashboard.events.lanes import Grouping
from service.results.model import TERMINAL, State
from service.signals import DROPPED, JobEvent

PAGE: Final = 50  # jobs

_REMEMBERED: Final = 100  # pages, until the list changes
_DECODER: Final = msgspec.json.Decoder(list[JobEvent])
# How far a job is in a state; in those that are not here it runs, or is about to run again.
_RANK: Final[dict[str, int]] = {State.QUEUED: 0, **dict.fromkeys(TERMINAL, 2), DROPPED: 3}
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
        event = msgspec.structs.replace(event, queued_at=other.queued_at)
    if event.queue is None and other.queue is not None:
        event = msgspec.structs.replace(event, queue=other.queue)
    if other.tags and not event.tags:
        event = msgspec.structs.replace(event, tags=other.tags)
    if event.group is None and other.group is not None:
        event = msgspec.structs.replace(event, group=other.group)
    return event


def began_at(event: JobEvent) -> float:
    """When the job came into being, as far as is known."""
    return event.queued_at or event.started_at or event.at


# By what the list is sorted.
_VALUES: Final[dict[str, Callable[[JobEvent], Any]]] = {
    "task": attrgetter("task"),
    "state": attrgetter("state"),
    "worker": attrgetter("worker"),
    "queue": attrgetter("queue"),
    "attempts": attrgetter("retries"),
    "queued": began_at,
    "started": attrgetter("started_at"),
    "run": attrgetter("ran_for"),
    "id": attrgetter("id"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """What to show of the list; `page` counts from 1. A filter that is empty lets all jobs pass.

    `failure` is a group of failures, `span` is the time that charts show, `lanes` is what has a
    lane each. What is said `in_full` has the texts of errors and arguments, which are not for
    everybody who may see the list; who `may_operate` is shown what to do.
    """

    state: str = ""
    search: str = ""
    task: str = ""
    worker: str = ""
    queue: str = ""
    failure: str = ""
    tag: str = ""
    in_full: bool = False
    may_operate: bool = False
    span: str = "hour"
    lanes: Grouping = "worker"
    sort: str = "queued"
    descending: bool = True
    page: int = 1

    @property
    def is_filter(self) -> bool:
        """Whether it leaves jobs out."""
        of_job = (self.state, self.task, self.worker, self.queue, self.failure, self.tag)
        return bool(self.search) or any(of_job)


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
        # By id, what a search looks at, without and with texts of errors and arguments.
        self._texts: dict[str, tuple[str, str]] = {}
        self._arguments: dict[str, str] = {}  # by id, as their records have them
        self._newest_first: list[JobEvent] | None = None
        self._pages: dict[Query, JobPage] = {}

    def __len__(self) -> int:
        return min(len(self._jobs), self._keep)

    def add(self, events: Iterable[JobEvent]) -> None:
        """Take in events, oldest first."""
        for event in events:
            known = self._jobs.get(event.id)
            self._newest_first = None
            self._texts.pop(event.id, None)
            if not self._arguments.get(event.id):
                self._arguments.pop(event.id, None)  # the next record may have them
            if event.state == DROPPED:
                self._jobs.pop(event.id, None)
                self._arguments.pop(event.id, None)
            else:
                self._jobs[event.id] = event if known is None else newer(known, event)

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
            jobs = self._sorted(self._fitting(in_order, query), query)
            pages = max(1, -(-len(jobs) // PAGE))
            number = min(max(1, query.page), pages)
            shown = tuple(jobs[(number - 1) * PAGE : number * PAGE])
            page = self._pages[query] = JobPage(shown, len(jobs), pages, number)
        return page

    def fitting(self, query: Query) -> list[JobEvent]:
        """All that fits the query, the newest first."""
        return self._fitting(self._in_order(), query)

    def with_worker(self) -> list[JobEvent]:
        """The jobs that a worker runs, or has run, the newest first."""
        return [job for job in self._in_order() if job.worker]

    def members_of(self, group: str) -> list[str]:
        """The ids of those of the jobs that were sent in this group, the oldest first."""
        return [job.id for job in reversed(self._in_order()) if job.group == group]

    def rates_out(self, now: float, seconds: float) -> dict[str, float]:
        """How many jobs of each queue ended in a second, as far back as the list goes."""
        in_order = self._in_order()
        if len(in_order) == self._keep:
            seconds = max(1.0, min(seconds, now - began_at(in_order[-1])))
        ended = Counter(
            job.queue for job in in_order if job.queue and (job.finished_at or 0) > now - seconds
        )
        return {queue: count / seconds for queue, count in ended.items()}

    def without_arguments(self) -> list[JobEvent]:
        """The jobs whose arguments are not known here, the newest first."""
        return [job for job in self._in_order() if job.id not in self._arguments]

    def add_arguments(self, found: Iterable[tuple[str, str]]) -> None:
        """Take in the arguments of jobs, as a search is to find them, by id."""
        for job_id, text in found:
            self._arguments[job_id] = text
            self._texts.pop(job_id, None)
        self._pages.clear()

    def _fitting(self, jobs: list[JobEvent], query: Query) -> list[JobEvent]:
        if query.state:
            states = _STATES_OF.get(query.state, {query.state})
            jobs = [job for job in jobs if job.state in states]
        for field in ("task", "worker", "queue"):
            if wanted := getattr(query, field):
                value = attrgetter(field)
                jobs = [job for job in jobs if value(job) == wanted]
        if query.failure:
            jobs = [job for job in jobs if group_id(job) == query.failure]
        if query.tag:
            jobs = [job for job in jobs if query.tag in job.tags]
        for word in query.search.lower().split():
            jobs = [job for job in jobs if word in self._text_of(job, in_full=query.in_full)]
        return jobs

    def _sorted(self, jobs: list[JobEvent], query: Query) -> list[JobEvent]:
        if query.sort == "queued" and query.descending:
            return jobs
        value = _VALUES[query.sort]
        have = [job for job in jobs if value(job) is not None]
        lack = [job for job in jobs if value(job) is None]
        return sorted(have, key=value, reverse=query.descending) + lack

    def _text_of(self, job: JobEvent, *, in_full: bool) -> str:
        texts = self._texts.get(job.id)
        if texts is None:
            names = (job.task, job.worker or "", job.queue or "", job.id, job.error_type, job.place)
            short = "\n".join((*names, *job.tags)).lower()
            full = f"{short}\n{job.error}\n{self._arguments.get(job.id, '')}".lower()
            texts = self._texts[job.id] = (short, full)
        return texts[in_full]

    def _in_order(self) -> list[JobEvent]:
        """The jobs that are kept, the newest first."""
        if self._newest_first is None:
            jobs = sorted(self._jobs.values(), key=began_at, reverse=True)
            for job in jobs[self._keep :]:
                del self._jobs[job.id]
                self._texts.pop(job.id, None)
                self._arguments.pop(job.id, None)
            self._newest_first = jobs[: self._keep]
            self._pages.clear()
        return self._newest_first
