"""Reads what the dashboard shows: at most once a second, however many people look."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import msgspec

from service.dashboard.events.recent import RecentJobs, decode_events
from service.dashboard.events.snapshot import Queue, Snapshot, Worker
from service.dashboard.events.stats import SPAN, STEP, bucket_of, by_task, overall
from service.errors import ResultsUnavailableError
from service.parts import Parts
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.results.model import State
from service.results.record import decode
from service.signals import JobEvent, WorkerStatus

INTERVAL: Final = 1.0  # seconds

_ENTRIES: Final = 1000  # of the stream in one reading, so that it does not stall Redis
_OPEN_BUCKETS: Final = 2  # the newest ones: reports of them may still come
_ASK_AFTER: Final = 3.0  # seconds after which the record of an unfinished job is read
_RECORDS: Final = 100  # records in one reading


class Reader:
    """One per web process. It reads when somebody asks, and one reading serves all for a second.

    `jobs` are the recent jobs, `snapshot` is the rest.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last_entry = ""
        self._buckets: dict[int, dict[str, int]] = {}
        self._asked_at: dict[str, float] = {}  # by id of an unfinished job
        self._worker_queues: set[str] = set()  # names of those that workers took jobs from
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self.jobs = RecentJobs(parts.settings.recent_jobs)
        self.snapshot = Snapshot()

    async def refresh(self) -> Snapshot:
        """Read, unless that was done a second ago; with a `problem` if Redis does not answer."""
        if time.monotonic() - self._read_at >= INTERVAL and self._reading is None:
            # In an asyncio task of its own: the caller may go away, and others share the answer.
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return self.snapshot

    def expire(self) -> None:
        """Have the next `refresh` read anew, because something was just changed here."""
        self._read_at = float("-inf")

    def queue_names(self) -> list[str]:
        """The queues of Celery's settings, and those that workers take jobs from."""
        return sorted({*self._parts.celery.get().amqp.queues, *self._worker_queues})

    async def _read(self) -> None:
        try:
            async with bounded(self._parts.settings.redis_timeout):
                await self._read_events()
                await self._read_records()
                self.snapshot = await self._read_snapshot()
        except ResultsUnavailableError as error:
            self.snapshot = replace(self.snapshot, problem=str(error))
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    async def _read_events(self) -> None:
        """Take in what was added to the stream since the last reading; all of it at first."""
        redis, stream = self._parts.redis, self._parts.keys.recent_jobs
        while True:
            after = f"({self._last_entry}" if self._last_entry else "-"
            entries: Any = await redis.xrange(stream, after, "+", count=_ENTRIES)
            for name, fields in entries:
                self.jobs.add(decode_events(fields.get(b"rows", b"")))
                self._last_entry = name.decode()
                await asyncio.sleep(0)  # all of a full list at once would stop the event loop
            if len(entries) < _ENTRIES:
                return

    async def _read_records(self) -> None:
        """Read the records of unfinished jobs: the last event of a killed worker never comes."""
        now, unfinished = time.time(), self.jobs.unfinished()
        asked_at = {job.id: at for job in unfinished if (at := self._asked_at.get(job.id))}
        due = [job for job in unfinished if now - asked_at.get(job.id, job.at) > _ASK_AFTER]
        due = sorted(due, key=lambda job: asked_at.get(job.id, job.at))[:_RECORDS]
        if not due:
            return
        keys = [self._parts.keys.record(job.id) for job in due]
        records: Any = await self._parts.redis.mget(keys)
        for job, record in zip(due, records, strict=True):
            asked_at[job.id] = now
            if record is not None and (event := _event_of(job, record)) is not None:
                self.jobs.add([event])
        self._asked_at = asked_at

    async def _read_snapshot(self) -> Snapshot:
        keys, newest = self._parts.keys, bucket_of(time.time())
        shown = range(newest - SPAN // STEP, newest + 1)
        final = range(shown.start, newest - _OPEN_BUCKETS)
        self._buckets = {n: counts for n, counts in self._buckets.items() if n in final}
        missing = [number for number in shown if number not in self._buckets]
        pipe = self._parts.redis.pipeline(transaction=False)
        for number in missing:
            pipe.hgetall(keys.stats(number))
        pipe.time()
        pipe.hgetall(keys.workers)
        pipe.zrange(keys.workers_seen, 0, -1, withscores=True)
        *buckets, (seconds, microseconds), statuses, seen = await pipe.execute()
        for number, counts in zip(missing, buckets, strict=True):
            self._buckets[number] = {name.decode(): int(many) for name, many in counts.items()}
        workers = tuple(_workers(seconds + microseconds / 1e6, statuses, dict(seen)))
        queues, deliveries = await self._read_queues(workers)
        return Snapshot(
            workers=workers,
            queues=queues,
            deliveries=deliveries,
            points=tuple((n * STEP, overall(self._buckets[n])) for n in shown),
            total=overall(*self._buckets.values()),
            tasks=by_task(self._buckets.values()),
            jobs=len(self.jobs),
        )

    async def _read_queues(self, workers: tuple[Worker, ...]) -> tuple[tuple[Queue, ...], int]:
        """The queues, and how many deliveries there are in all, from the broker's Redis."""
        alive = [worker.status for worker in workers if worker.is_alive]
        self._worker_queues.update(name for status in alive for name in status.queues)
        keys, names = broker_keys(self._parts.celery.get().conf), self.queue_names()
        deliveries_key, _ = keys.in_flight
        pipe = self._parts.broker_redis.pipeline(transaction=False)
        pipe.hlen(deliveries_key)
        for name in names:
            for key in (keys.dead_letters_of(name), *keys.lists_of(name)):
                pipe.llen(key)
        deliveries, *lengths = await pipe.execute()
        left = iter(lengths)
        queues = tuple(
            Queue(
                name=name,
                dead=next(left),
                waiting=sum(islice(left, len(keys.lists_of(name)))),
                deliveries=sum(status.deliveries.get(name, 0) for status in alive),
            )
            for name in names
        )
        return queues, deliveries


def _workers(
    now: float, statuses: Mapping[bytes, bytes], seen: Mapping[bytes, float]
) -> Iterator[Worker]:
    for name, stored in sorted(statuses.items()):
        try:
            status = msgspec.json.decode(stored, type=WorkerStatus)
        except msgspec.MsgspecError:
            continue  # that of another version of the service
        age = max(0.0, now - seen.get(name, 0.0))
        yield Worker(name.decode(errors="replace"), age, status)


def _event_of(job: JobEvent, record: bytes) -> JobEvent | None:
    """The event that a job's own record tells of; None if it is not a new one."""
    try:
        result = decode(job.id, record)
    except ValueError:
        return None
    if result.state == job.state or not (result.ready or job.state == State.QUEUED):
        return None
    return msgspec.structs.replace(
        job,
        state=result.state.value,
        task=result.task or job.task,
        at=time.time(),
        queued_at=result.queued_at.timestamp() if result.queued_at else job.queued_at,
        started_at=result.started_at.timestamp() if result.started_at else job.started_at,
        finished_at=result.finished_at and result.finished_at.timestamp(),
    )
