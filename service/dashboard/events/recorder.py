"""Records the job events of this process, and reports them to Redis once a second."""

import asyncio
import atexit
import logging
import os
import threading
import time
import uuid
import weakref
from collections import Counter, deque
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import msgspec
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from service.dashboard.events.failures import FailureGroup, grouped
from service.dashboard.events.recent import newer
from service.dashboard.events.stats import LONG_SPAN, LONG_STEP, SPAN, STEP, bucket_of, count
from service.redis.clients import connect_blocking
from service.redis.deadline import Deadline
from service.redis.keys import result_keys
from service.redis.script import Script
from service.settings import Settings
from service.signals import JobEvent, WorkerStatus

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds between two reports
# Seconds after which a worker says anew how it is, where nothing has changed. A worker is shown as
# gone after five.
_SAME_AGAIN: Final = 1.9

_SCRIPT: Final = Script.load("service.dashboard.events", "report")
_CHUNK: Final = 500  # events in one call of the script, during which Redis serves nobody else
_GROUPS: Final = 50  # groups of failures in one call
_MOST_GROUPS: Final = 500  # that wait to be reported
_EVENTS_PER_JOB: Final = 3  # queued, started, ended
_BACKLOG: Final = 200_000  # events of one second; beyond that the oldest go
# Seconds: longer than it is shown, by more than clocks differ.
_BUCKET_TTL: Final = SPAN + 120
_LONG_BUCKET_TTL: Final = LONG_SPAN + 2 * LONG_STEP


class Recorder:
    """Takes events from any thread at the cost of an append; a thread of its own reports them.

    So neither a job nor an event loop ever waits for the list of recent jobs. A process that ends
    without `aclose`, as a script does, waits a moment for the last report. One that is killed loses
    at most the last second's events: the jobs' own records are never behind.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = result_keys(settings)
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        """Begin with nothing: as new, or as a forked child, which has no thread and no events."""
        atexit.unregister(self._finish_at_exit)  # the parent's, in a child
        self._events: deque[JobEvent] = deque(maxlen=_BACKLOG)
        self._newest: dict[str, JobEvent] = {}  # of each job that is still to be reported
        self._counts: Counter[tuple[int, str]] = Counter()
        self._failures: list[FailureGroup] = []
        self._unsent: tuple[list[str], list[Any]] | None = None  # keys and arguments of the script
        self._failing = False
        self._said: tuple[str, WorkerStatus] | None = None  # of a worker, with the last report
        self._said_at = 0.0
        self._client: Redis | None = None
        self._thread: threading.Thread | None = None
        self._owns_thread = True
        self._starting = threading.Lock()
        self._reporting = threading.Lock()
        self._closed = threading.Event()
        self._finished: Future[None] = Future()  # by the thread, after its last report
        self._finished.set_running_or_notify_cancel()  # who gives up waiting does not cancel it

    def record(self, event: JobEvent) -> None:
        """Have this event reported within a second or so: a receiver of `job_changed`."""
        self._events.append(event)
        if self._thread is None:
            self._start()

    def record_worker(self, worker: str, status: WorkerStatus | None) -> None:
        """Report now, with a worker's status: a receiver of `worker_reported`.

        That signal is sent every second, so the recorder needs no thread of its own any more. Where
        there is nothing new, every second call reports nothing.
        """
        self.take_over()
        said, now = _without_age(worker, status), time.monotonic()
        is_news = said is None or said != self._said or now - self._said_at >= _SAME_AGAIN
        if is_news or self._has_unreported():
            self._said, self._said_at = (said if self.report(worker, status) else None), now

    def take_over(self) -> None:
        """Leave the reporting to the caller, who calls `report` every second."""
        self._owns_thread = False
        self._thread = threading.current_thread()

    def report(self, worker: str = "", status: WorkerStatus | None = None) -> bool:
        """Report now what was recorded, and a worker's status, or with None that it left.

        Returns whether Redis took all of it.
        """
        with self._reporting:
            self._collect()
            try:
                self._send_unsent()
                self._unsent = self._next_report(worker, status)
                self._send_unsent()
                while self._newest or self._counts or self._failures:
                    self._unsent = self._next_report()
                    self._send_unsent()
            except (RedisError, OSError) as error:
                problem = "behind, Redis is away"
                if isinstance(error, ResponseError):
                    problem = "incomplete, Redis refuses"
                    self._unsent = None  # Redis would refuse it again
                if not self._failing:
                    logger.warning("The dashboard is %s: %s", problem, error)
                self._failing = True
                return False
            self._failing = False
            return True

    async def aclose(self) -> None:
        """Report the events that are left, unless Redis is known to be away, and end the thread."""
        atexit.unregister(self._finish_at_exit)
        self._closed.set()
        if self._thread is None or not self._owns_thread:
            await asyncio.to_thread(self._finish)
            return
        with suppress(TimeoutError):
            async with Deadline(self._settings.redis_timeout * 2):
                await asyncio.wrap_future(self._finished)

    def _finish_at_exit(self) -> None:
        """Have the thread report what is left, before Python stops it: it is a daemon thread."""
        self._closed.set()
        wait([self._finished], self._settings.redis_timeout)

    def _finish(self) -> None:
        if self._has_unreported() and not self._failing:
            self.report()
        if self._client is not None:
            self._client.close()

    def _has_unreported(self) -> bool:
        return bool(self._events or self._newest or self._unsent)

    def _send_unsent(self) -> None:
        """Send the call that is under way: the same one, with its mark, until Redis has it."""
        if self._unsent is None:
            return
        if self._client is None:
            self._client = connect_blocking(self._settings)
        _SCRIPT.run_blocking(self._client, *self._unsent)
        self._unsent = None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()
                atexit.register(self._finish_at_exit)

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL):
            if self._has_unreported():
                try:
                    self.report()
                except Exception:
                    # The jobs do not depend on it, whatever it is, and the next report may work.
                    logger.exception("A report for the dashboard failed")
        try:
            self._finish()
        except Exception as error:  # noqa: BLE001  `aclose` raises it
            self._finished.set_exception(error)
        else:
            self._finished.set_result(None)

    def _collect(self) -> None:
        """Take in what was recorded: counts of all events, and of each job the newest event."""
        take = self._events.popleft
        events = [take() for _ in range(len(self._events))]  # other threads may add more meanwhile
        self._counts.update(count(events))
        failed = grouped(event for event in events if event.error)
        self._failures = [*self._failures, *failed][-_MOST_GROUPS:]
        newest = self._newest
        for event in events:
            known = newest.get(event.id)
            newest[event.id] = event if known is None else newer(known, event)
        for job_id in list(newest)[: -self._settings.recent_jobs]:
            del newest[job_id]

    def _next_report(
        self, worker: str = "", status: WorkerStatus | None = None
    ) -> tuple[list[str], list[Any]]:
        """The next call of the script: its keys and arguments, which are then dropped here."""
        settings, keys = self._settings, self._keys
        ids = list(islice(self._newest, _CHUNK))
        events = msgspec.json.encode([self._newest.pop(job_id) for job_id in ids])
        counts = Counter(
            {(keys.stats(b, STEP), field): n for (b, field), n in self._counts.items()}
        )
        shorter = dict.fromkeys(key for key, _ in counts)
        for (bucket, field), amount in self._counts.items():
            counts[keys.stats(bucket_of(bucket * STEP, LONG_STEP), LONG_STEP), field] += amount
        buckets = {key: number for number, key in enumerate(dict.fromkeys(k for k, _ in counts), 1)}
        limits = (settings.recent_jobs * _EVENTS_PER_JOB, keys.ttl)
        lives = (len(shorter), _BUCKET_TTL, _LONG_BUCKET_TTL)
        encoded = msgspec.json.encode(status) if status else b""
        failures = b""
        if self._failures:
            failures = msgspec.json.encode(self._failures[:_GROUPS])
            del self._failures[:_GROUPS]
        arguments: list[Any] = [*limits, worker, encoded, len(ids), events, failures, *lives]
        for (key, field), amount in counts.items():
            arguments += (buckets[key], field, amount)
        self._counts.clear()
        mark = keys.report_mark(uuid.uuid4().hex)
        own = [mark, keys.recent_jobs, keys.workers, keys.workers_seen]
        own += [keys.failures, keys.failures_seen]
        return [*own, *buckets], arguments


def _without_age(worker: str, status: WorkerStatus | None) -> tuple[str, WorkerStatus] | None:
    """What a worker says, but for what changes with each second that passes."""
    return None if status is None else (worker, msgspec.structs.replace(status, lease_age=None))
