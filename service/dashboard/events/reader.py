"""Reads what the dashboard shows: at most once a second, however many people look."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import ResponseError

from service.dashboard.events.failures import read_groups
from service.dashboard.events.history import History
from service.dashboard.events.queues import SPAN, Queues
from service.dashboard.events.recent import RecentJobs, decode_events
from service.dashboard.events.snapshot import Snapshot
from service.dashboard.events.stats import by_task, total
from service.dashboard.events.stored import event_of_record, workers_in
from service.errors import ResultsUnavailableError
from service.parts import Parts
from service.redis.bounded import bounded
from service.results.marks import arguments_in
from service.results.model import State

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds

_ENTRIES: Final = 1000  # of the stream in one reading, so that it does not stall Redis
_ASK_AFTER: Final = 3.0  # seconds after which the record of an unfinished job is read
_RECORDS: Final = 100  # records in one reading
_WAITING_QUEUES: Final = 100  # that are known by jobs alone
_TAIL: Final = 5_000  # bytes of a record: its arguments stand near the end
_TAILS: Final = 500  # in one reading


class Reader:
    """One per web process. It reads when somebody asks, and one reading serves all for a second.

    `jobs` are the recent jobs, `history` has what charts show, `snapshot` is the rest.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last_entry = ""
        self._asked_at: dict[str, float] = {}  # by id of an unfinished job
        self._worker_queues: set[str] = set()  # names of those that workers took jobs from
        self._waiting_queues: set[str] = set()  # names of those of recent jobs that wait
        self._queues = Queues(parts)
        self._reading_arguments = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self.jobs = RecentJobs(parts.settings.recent_jobs)
        self.history = History()
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
        """The queues of Celery's settings, those that workers take jobs from, and of waiting jobs.

        So a queue is seen that no worker knows, as by a mistake in its name.
        """
        known = self._parts.celery.get().amqp.queues
        return sorted({*known, *self._worker_queues, *self._waiting_queues})

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
        waiting = {job.queue for job in unfinished if job.queue and job.state == State.QUEUED}
        self._waiting_queues = {*sorted(waiting)[:_WAITING_QUEUES]}
        asked_at = {job.id: at for job in unfinished if (at := self._asked_at.get(job.id))}
        due = [job for job in unfinished if now - asked_at.get(job.id, job.at) > _ASK_AFTER]
        due = sorted(due, key=lambda job: asked_at.get(job.id, job.at))[:_RECORDS]
        if not due:
            return
        keys = [self._parts.keys.record(job.id) for job in due]
        records: Any = await self._parts.redis.mget(keys)
        for job, record in zip(due, records, strict=True):
            asked_at[job.id] = now
            if record is not None and (event := event_of_record(job, record)) is not None:
                self.jobs.add([event])
        self._asked_at = asked_at

    async def forget_failures(self, group: str) -> None:
        """Forget a group of failures, until one more comes. Raises ResultsUnavailableError."""
        keys = self._parts.keys
        async with bounded(self._parts.settings.redis_timeout):
            await self._parts.redis.hdel(keys.failures, group)
            await self._parts.redis.zrem(keys.failures_seen, group)

    async def read_arguments(self) -> None:
        """Read what a search is to find of the arguments of the recent jobs.

        They are read when somebody searches, once for each job: to report them with each job would
        cost all jobs something. Raises ResultsUnavailableError.
        """
        redis, key = self._parts.redis, self._parts.keys.record
        async with self._reading_arguments:
            missing = [job.id for job in self.jobs.without_arguments()]
            for ids in (missing[at : at + _TAILS] for at in range(0, len(missing), _TAILS)):
                async with bounded(self._parts.settings.redis_timeout):
                    pipe = redis.pipeline(transaction=False)
                    for job_id in ids:
                        pipe.getrange(key(job_id), -_TAIL, -1)
                    tails: list[Any] = await pipe.execute(raise_on_error=False)
                texts = [arguments_in(tail) if isinstance(tail, bytes) else "" for tail in tails]
                self.jobs.add_arguments(zip(ids, texts, strict=True))

    async def _read_snapshot(self) -> Snapshot:
        keys, at = self._parts.keys, time.time()
        to_read = self.history.to_read(at)
        pipe = self._parts.redis.pipeline(transaction=False)
        for buckets, numbers in to_read:
            for number in numbers:
                pipe.hgetall(keys.stats(number, buckets.step))
        pipe.time()
        pipe.hgetall(keys.workers)
        pipe.zrange(keys.workers_seen, 0, -1, withscores=True)
        pipe.hgetall(keys.failures)
        *counts, moment, statuses, seen, failures = await pipe.execute(raise_on_error=False)
        if isinstance(moment, ResponseError):  # Redis itself refuses
            raise moment
        answers = map(_or_empty, counts)
        for buckets, numbers in to_read:
            buckets.take(at, [(number, next(answers)) for number in numbers])
        of_hour = self.history.hour.sum
        now = moment[0] + moment[1] / 1e6
        workers = tuple(workers_in(now, _or_empty(statuses), _or_empty(seen)))
        alive = [worker.status for worker in workers if worker.is_alive]
        self._worker_queues.update(name for status in alive for name in status.queues)
        rates_out = self.jobs.rates_out(now, SPAN)
        found = await self._queues.read(self.queue_names(), alive, rates_out, now)
        return Snapshot(
            workers=workers,
            queues=found.queues,
            paused_tasks=found.paused_tasks,
            deliveries=found.deliveries,
            per_second=self.history.per_second,
            total=total(of_hour),
            tasks=by_task(of_hour),
            failures=read_groups(_or_empty(failures)),
            at=now,
            jobs=len(self.jobs),
        )


def _or_empty(answer: Any) -> Any:
    """What Redis has; nothing where something of another kind is stored under the key."""
    if isinstance(answer, ResponseError):
        logger.warning("A part of the dashboard cannot be read: %s", answer)
        return {}
    return answer if isinstance(answer, dict) else dict(answer)
