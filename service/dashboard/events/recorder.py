"""Notes what happens to jobs in this process, and reports it to Redis once a second."""

import logging
import os
import threading
import uuid
import weakref
from collections import Counter, deque
from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from typing import Any, Final

from quart import Quart
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from service.dashboard.events.rows import encode_events, is_newer
from service.dashboard.events.stats import SPAN, count
from service.dashboard.events.status import encode_status
from service.parts import parts_of
from service.redis.clients import connect_blocking
from service.redis.keys import ResultKeys, result_keys
from service.signals import JobEvent, WorkerStatus, job_changed, worker_reported

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds between two reports

_EXTENSION: Final = "service.recorder"
_SCRIPT: Final = (files("service.dashboard.events") / "report.lua").read_text()
_CHUNK: Final = 500  # rows in one call of the script, during which Redis serves nobody else
_ROWS_PER_JOB: Final = 3  # queued, started, ended
_EVENTS: Final = 200_000  # of one second; beyond that the oldest go
_LEFT: Final = ""  # the status of a worker that leaves


class Recorder:
    """Takes notes from any thread at the cost of an append; a thread of its own reports them.

    So neither a job nor an event loop ever waits for the list of recent jobs. Whoever is killed
    takes at most the last second's notes along: the jobs' own records are never behind.
    """

    _events: deque[JobEvent]
    _rows: dict[str, JobEvent]
    _counts: Counter[tuple[int, str]]
    _unsent: tuple[list[str], list[Any]] | None
    _client: Redis | None
    _script: Any
    _thread: threading.Thread | None
    _reporting: threading.Lock
    _away: bool

    def __init__(
        self,
        new_client: Callable[[], Redis],
        *,
        timeout: float,
        keep: int,
        lifetime: int,
        keys: ResultKeys,
    ) -> None:
        self._new_client = new_client
        self._keys = keys
        self._timeout = timeout
        self._keep = keep
        self._lifetime = lifetime
        self._forget_process()
        _recorders.add(self)

    def record(self, _sender: object, event: JobEvent) -> None:
        """Have this reported within a second or so: a receiver of `job_changed`."""
        self._events.append(event)
        if self._thread is None:
            self._start()

    def report(self, worker: str = "", status: str = _LEFT) -> bool:
        """Report now what was noted, and how a worker is; whether Redis took all of it."""
        with self._reporting:
            self._collect()
            try:
                self._send_rest()
                self._unsent = self._next_call(worker, status)
                self._send_rest()
                while self._rows or self._counts:
                    self._unsent = self._next_call("", _LEFT)
                    self._send_rest()
            except ResponseError as error:
                self._unsent = None  # asking again would be refused again
                if not self._away:
                    logger.warning("The dashboard is incomplete, Redis refuses: %s", error)
                self._away = True
                return False
            except (RedisError, OSError) as error:
                if not self._away:
                    logger.warning("The dashboard is behind, Redis is away: %s", error)
                self._away = True
                return False
            self._away = False
            return True

    def close(self) -> None:
        """Report what is left, and end the thread."""
        self._closed.set()
        if self._thread is not None and self._is_ours:
            self._thread.join(self._timeout * 2)
        if self._events or self._rows or self._unsent:
            self.report()
        if self._client is not None:
            self._client.close()

    def report_worker(self, _sender: object, worker: str, status: WorkerStatus | None) -> None:
        """Report now, with how a worker is: a receiver of `worker_reported`.

        It is sent every second, so the recorder needs no thread of its own any more.
        """
        self.take_over()
        self.report(worker, encode_status(status) if status else _LEFT)

    def take_over(self) -> None:
        """Leave the reporting to the caller, who calls `report` every second."""
        self._is_ours = False
        self._thread = threading.current_thread()

    def _send_rest(self) -> None:
        """Send the call that is under way: the same one, with its mark, until Redis has it."""
        if self._unsent is None:
            return
        keys, arguments = self._unsent
        if self._script is None:
            self._script = self._connect().register_script(_SCRIPT)
        self._script(keys=keys, args=arguments)
        self._unsent = None

    def _connect(self) -> Redis:
        self._client = self._new_client()
        return self._client

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL):
            if self._events or self._rows or self._unsent:
                try:
                    self.report()
                except Exception:
                    # Whatever it is, the jobs do not depend on it, and the next report may work.
                    logger.exception("A report for the dashboard failed")

    def _collect(self) -> None:
        """Take in what was noted; of one job only its newest row is worth a place in the list."""
        take = self._events.popleft
        events = [take() for _ in range(len(self._events))]  # which threads may add to meanwhile
        self._counts.update(count(events))
        rows = self._rows
        for event in events:
            before = rows.get(event.id)
            if before is None or is_newer(event, before):
                rows[event.id] = event
        for job_id in list(rows)[: -self._keep]:
            del rows[job_id]

    def _next_call(self, worker: str, status: str) -> tuple[list[str], list[Any]]:
        """The script's keys and arguments for what is to be reported, which is then dropped."""
        ids = list(islice(self._rows, _CHUNK))
        buckets = sorted({bucket for bucket, _ in self._counts})
        own = self._keys
        keys = [own.report_mark(uuid.uuid4().hex), own.recent_jobs, own.workers, own.workers_seen]
        keys += map(own.stats, buckets)
        limits = [self._keep * _ROWS_PER_JOB, self._lifetime, SPAN + 120]
        rows = encode_events([self._rows.pop(job_id) for job_id in ids])
        arguments = [*limits, worker, status, len(ids), rows]
        for (bucket, field), amount in self._counts.items():
            arguments += (1 + buckets.index(bucket), field, amount)
        self._counts.clear()
        return keys, arguments

    def _forget_process(self) -> None:
        """Begin with nothing: as new, or as a forked child, which has no thread and no notes."""
        self._events = deque(maxlen=_EVENTS)
        self._rows = {}
        self._counts = Counter()
        self._unsent = None
        self._away = False
        self._client = None
        self._script = None
        self._thread = None
        self._is_ours = True
        self._starting = threading.Lock()
        self._reporting = threading.Lock()
        self._closed = threading.Event()


_recorders: Final[weakref.WeakSet[Recorder]] = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in _recorders:
        recorder._forget_process()  # noqa: SLF001  this module's own


os.register_at_fork(after_in_child=_after_fork)


def init_recorder(app: Quart) -> None:
    """Give the app its recorder; what it has left is reported when the app stops serving."""
    settings = parts_of(app).settings
    recorder = Recorder(
        lambda: connect_blocking(settings),
        timeout=settings.redis_timeout,
        keep=settings.recent_jobs,
        lifetime=settings.result_expires,
        keys=result_keys(settings),
    )
    app.extensions[_EXTENSION] = recorder
    app.after_serving(recorder.close)
    job_changed.connect(recorder.record, sender=app)
    worker_reported.connect(recorder.report_worker, sender=app)


def get_recorder(app: Quart) -> Recorder:
    """The recorder that the app was given."""
    recorder: Recorder = app.extensions[_EXTENSION]
    return recorder
