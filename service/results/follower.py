"""Follows jobs for one reader: an async iterator over the changes of their records."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from service.errors import ResultsUnavailableError, UnknownJobError
from service.redis.deadline import Deadline
from service.results.store import StoredRecord

_KEPT: Final = 64  # changes of a job kept for a follower that is slow to take them


@dataclass(frozen=True, slots=True)
class Change:
    """A job's new record, or None where Redis has no record of it any more."""

    job_id: str
    record: StoredRecord | None


class NoChange(Enum):
    """Why a follower has had no change for a while, in words for a client."""

    QUIET = "nothing new"
    LOST = "Redis cannot be asked at the moment"


@dataclass(slots=True, eq=False)
class Topic:
    """A job that is followed: the last change that the feed gave, and its followers."""

    change: Change
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # set while its connection lives
    followers: "set[Follower]" = field(default_factory=set)


class Follower:
    """Gives each change of its jobs in order, and a NoChange each time that its interval is over.

    It ends when the server stops. A job that has ended, or is known no more, is followed no
    longer. Close a follower, or its jobs are followed for ever. `records` has the record of each
    known job as this follower has it: at first the present one, then that of each change.
    """

    __slots__ = (
        *("_changes", "_interval", "_interval_ends", "_leave", "_limit", "_on_close"),
        *("_stopping", "_topics", "_waiting", "records"),
    )

    def __init__(
        self,
        topics: Mapping[str, Topic],
        *,
        interval: float,
        stopping: asyncio.Event,
        leave: "Callable[[Topic, Follower], None]",
        on_close: Callable[[], None],
    ) -> None:
        self._topics = dict(topics)  # by the job's id
        self._interval = interval  # seconds
        self._interval_ends: float | None = None  # by the loop's clock; None before it begins
        self._stopping = stopping
        self._leave = leave
        self._on_close: Callable[[], None] | None = on_close
        self._changes: list[Change] = []  # a deque would take 600 bytes for each follower
        self._limit = _KEPT * len(topics)
        self._waiting: asyncio.Future[None] | None = None
        self.records: dict[str, StoredRecord] = {}

    async def begin(self, timeout: float) -> None:
        """Wait until each job was read. Raises ResultsUnavailableError."""
        try:
            async with Deadline(timeout):
                for topic in self._topics.values():
                    await topic.answered.wait()
        except TimeoutError as error:
            raise ResultsUnavailableError(f"no answer within {timeout:g} s") from error
        self._changes.clear()  # the topics have what is newest
        for topic in [*self._topics.values()]:
            self._take(topic.change)

    def record(self, job_id: str) -> StoredRecord:
        """The job's record as this follower has it. Raises UnknownJobError."""
        if job_id not in self.records:
            raise UnknownJobError(job_id)
        return self.records[job_id]

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> Change | NoChange:
        loop = asyncio.get_running_loop()
        if self._interval_ends is None:
            self._interval_ends = loop.time() + self._interval
        try:
            async with Deadline(self._interval_ends - loop.time()):
                while not self._stopping.is_set():
                    while self._changes:
                        if self._take(change := self._changes.pop(0)):
                            return change
                    self._waiting = loop.create_future()
                    await (self._waiting if self._topics else self._stopping.wait())
        except TimeoutError:
            self._interval_ends = None
            connected = all(topic.answered.is_set() for topic in self._topics.values())
            return NoChange.QUIET if connected else NoChange.LOST
        finally:
            self._waiting = None
        raise StopAsyncIteration

    def put(self, change: Change) -> None:
        """Give the follower a change of one of its jobs."""
        self._changes.append(change)
        del self._changes[: -self._limit]
        self.wake()

    def wake(self) -> None:
        """Let the follower see that there is a change, or that the server stops."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Follow nothing any more; may be called again."""
        while self._topics:
            self._leave(self._topics.popitem()[1], self)
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    def _take(self, change: Change) -> bool:
        """Make the change what this follower knows; False for a job that it follows no longer."""
        if change.job_id not in self._topics:
            return False
        if change.record is None:
            self.records.pop(change.job_id, None)
        else:
            self.records[change.job_id] = change.record
        if change.record is None or change.record.result.ready:
            self._leave(self._topics.pop(change.job_id), self)
        return True
