"""Reads what the dashboard shows: at most once a second, however many look."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from redis.asyncio import Redis

from service.dashboard.events.recent import RecentJobs
from service.dashboard.events.rows import JobRow, decode_rows
from service.dashboard.events.snapshot import Point, Queue, Snapshot, Worker
from service.dashboard.events.stats import SPAN, STEP, bucket_of, by_task, overall
from service.dashboard.events.status import decode_status
from service.errors import ResultsUnavailableError
from service.redis.bounded import bounded
from service.redis.keys import ResultKeys
from service.results.record import decode
from service.signals import WorkerStatus

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds
_ENTRIES: Final = 1000  # of the stream in one reading, so that it does not stall Redis
_OPEN: Final = 2  # newest buckets, which may still change
_LOOK_AGAIN: Final = 3.0  # seconds after which an unfinished job's own record is asked
_RECORDS: Final = 100  # records asked in one reading


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """A queue's lists in Redis: one for each priority, and that of its dead letters."""

    name: str
    waiting: tuple[str, ...]
    dead: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where in Redis everything is found.

    `own` are the monitor's records. `queues` adds those of Celery's settings to those that it is
    given; `record` is the key of a job's record, and `held` that of the hash of what workers hold.
    """

    own: ResultKeys

    queues: Callable[[set[str]], Sequence[QueueKeys]]
    record: Callable[[str], str]
    held: str


class Reader:
    """One per web process: it reads when somebody asks, and for a second that serves all."""

    def __init__(
        self,
        client: Redis,
        places: Places,
        *,
        broker: Redis,
        timeout: float,
        keep: int,
    ) -> None:
        self._client = client
        self._broker = broker
        self._timeout = timeout
        self._places = places
        self._last_id = "-"
        self._buckets: dict[int, dict[str, int]] = {}
        self._asked: dict[str, float] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self.jobs = RecentJobs(keep)
        self.known: set[str] = set()  # queues that workers have taken jobs from
        self.snapshot = Snapshot()

    async def refresh(self) -> Snapshot:
        """What is so now, or was a second ago at most; with `problem` if Redis cannot be asked."""
        if time.monotonic() - self._read_at >= INTERVAL and self._reading is None:
            # A task of its own: the one who asked may go away, others share the answer.
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return self.snapshot

    def expire(self) -> None:
        """Have the next `refresh` read anew: something was just changed here."""
        self._read_at = float("-inf")

    async def _read(self) -> None:
        try:
            async with bounded(self._timeout):
                await self._read_rows()
                await self._look_again()
                self.snapshot = await self._read_rest()
        except ResultsUnavailableError as error:
            self.snapshot = replace(self.snapshot, problem=str(error))
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    async def _read_rows(self) -> None:
        """Take in what was added to the stream since last time; all of it at first."""
        own = self._places.own
        while True:
            after = "-" if self._last_id == "-" else f"({self._last_id}"
            entries: Any = await self._client.xrange(own.recent_jobs, after, "+", count=_ENTRIES)
            if not entries:
                return
            for _, fields in entries:
                self.jobs.add(decode_rows(fields.get(b"rows", b"")))
                await asyncio.sleep(0)  # all of a full list at once would stop the event loop
            self._last_id = entries[-1][0].decode()
            if len(entries) < _ENTRIES:
                return

    async def _look_again(self) -> None:
        """Ask the records of unfinished jobs: the note of a killed worker may never come."""
        now = time.time()
        waiting = [
            row
            for row in self.jobs.unfinished()
            if now - self._asked.get(row.id, row.at) > _LOOK_AGAIN
        ]
        chosen = sorted(waiting, key=lambda row: self._asked.get(row.id, row.at))[:_RECORDS]
        if not chosen:
            return
        records: Any = await self._client.mget([self._places.record(row.id) for row in chosen])
        self._asked = {i: at for i, at in self._asked.items() if self.jobs.get(i) is not None}
        for row, record in zip(chosen, records, strict=True):
            self._asked[row.id] = now
            if record is not None and (found := _row_of(row, record)) is not None:
                self.jobs.add([found])
                if found.ready:
                    del self._asked[row.id]

    async def _read_rest(self) -> Snapshot:
        own, now = self._places.own, bucket_of(time.time())
        wanted = range(now - SPAN // STEP, now + 1)
        self._buckets = {n: b for n, b in self._buckets.items() if n in wanted and n < now - _OPEN}
        missing = [number for number in wanted if number not in self._buckets]
        pipe = self._client.pipeline(transaction=False)
        for number in missing:
            pipe.hgetall(own.stats(number))
        pipe.time()
        pipe.hgetall(own.workers)
        pipe.zrange(own.workers_seen, 0, -1, withscores=True)
        answers: list[Any] = await pipe.execute()
        for number, counts in zip(missing, answers, strict=False):
            self._buckets[number] = {k.decode(): int(v) for k, v in counts.items()}
        clock, statuses, seen = answers[len(missing) :]
        workers = _workers(clock[0] + clock[1] / 1e6, statuses, dict(seen))
        queues, held = await self._read_queues(workers)
        return Snapshot(
            at=time.time(),
            workers=workers,
            queues=queues,
            held=held,
            points=tuple(Point(n * STEP, overall(self._buckets[n])) for n in wanted),
            tasks=by_task(self._buckets.values()),
            jobs=len(self.jobs),
        )

    async def _read_queues(self, workers: tuple[Worker, ...]) -> tuple[tuple[Queue, ...], int]:
        """What the broker's Redis has: the queues, and how many messages are held."""
        alive = [worker.status for worker in workers if worker.is_alive]
        self.known |= {name for status in alive for name in status.queues}
        queues = self._places.queues(self.known)
        pipe = self._broker.pipeline(transaction=False)
        pipe.hlen(self._places.held)
        for queue in queues:
            for key in (*queue.waiting, queue.dead):
                pipe.llen(key)
        lengths = iter(await pipe.execute())
        held = next(lengths)
        found = tuple(
            Queue(
                name=queue.name,
                waiting=sum(islice(lengths, len(queue.waiting))),
                dead=next(lengths),
                held=sum(status.held.get(queue.name, 0) for status in alive),
            )
            for queue in queues
        )
        return found, held


def _workers(
    now: float, statuses: Mapping[bytes, bytes], seen: Mapping[bytes, float]
) -> tuple[Worker, ...]:
    found: list[Worker] = []
    for name, stored in sorted(statuses.items()):
        status: WorkerStatus | None = decode_status(stored)
        if status is not None:
            age = max(0.0, now - seen.get(name, 0.0))
            found.append(Worker(name.decode(errors="replace"), age, status))
    return tuple(found)


def _row_of(row: JobRow, record: bytes) -> JobRow | None:
    """The row that a job's own record makes; None if it tells nothing new."""
    try:
        result = decode(row.id, record)
    except ValueError:
        return None
    if result.state == row.state or not (result.ready or row.state == "QUEUED"):
        return None
    return JobRow(
        id=row.id,
        state=result.state.value,
        task=result.task or row.task,
        at=time.time(),
        worker=row.worker,
        queued_at=result.queued_at.timestamp() if result.queued_at else row.queued_at,
        started_at=result.started_at.timestamp() if result.started_at else row.started_at,
        finished_at=result.finished_at.timestamp() if result.finished_at else None,
        retries=row.retries,
    )
