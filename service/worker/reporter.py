"""Has a worker say every second how it is, and which jobs run."""

import logging
import threading
import time
from collections import Counter
from typing import Any, Final

from celery import bootsteps
from celery.worker import state

from service.broker.celery_worker import all_of
from service.broker.leases.registry import lease_age
from service.signals import (
    JobEvent,
    WorkerStatus,
    job_changed,
    seconds_since_epoch,
    worker_reported,
)

logger: Final = logging.getLogger(__name__)

_STOP_WITHIN: Final = 3.0  # seconds
INTERVAL: Final = 1.0  # seconds between two reports
_A_WHILE: Final = 0.3  # seconds that a job runs before it is shown as running


class ReporterStep(bootsteps.StartStopStep):
    """Reports from a thread: a busy event loop does not stop it, nor it an event loop."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        self._app = worker.app.quart_app
        self._started_at = time.time()
        self._noted: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self, worker: Any) -> None:
        """Begin to report, if anybody listens."""
        if worker_reported.receivers:
            self._thread.start()

    def stop(self, worker: Any) -> None:
        """Say that this worker leaves."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_WITHIN)

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown."""
        self.stop(worker)

    def _run(self) -> None:
        while True:
            try:
                self._note_running()
                self._report(self._status())
            except Exception:
                # A worker that nobody sees is better than one that ends because of it.
                logger.exception("The worker could not report how it is")
            if self._stopping.wait(INTERVAL):
                break
        self._report(None)

    def _report(self, status: WorkerStatus | None) -> None:
        worker_reported.send(self._app, worker=self._worker.hostname, status=status)

    def _note_running(self) -> None:
        """Note the jobs that have run for a while and were not noted yet."""
        now = time.time()
        running: set[str] = set()
        for request in all_of(state.active_requests):
            started = request.time_start or now
            if now - started < _A_WHILE:
                continue
            running.add(request.id)
            if request.id not in self._noted:
                job_changed.send_event(self._app, _running(request, started))
        self._noted = running

    def _status(self) -> WorkerStatus:
        worker = self._worker
        return WorkerStatus(
            pool=_name_of(worker.pool_cls),
            capacity=worker.pool.num_processes if worker.pool else worker.concurrency,
            running=len(state.active_requests),
            deliveries=_held(),
            queues=sorted(worker.app.amqp.queues.consume_from),
            started_at=self._started_at,
            lease_age=lease_age(),
        )


def _running(request: Any, started: float) -> JobEvent:
    return JobEvent(
        request.id,
        "STARTED",
        request.name,
        started,
        request.hostname,
        seconds_since_epoch((request.message.headers or {}).get("queued_at")),
        started,
    )


def _name_of(pool: type) -> str:
    """`prefork` for Celery's `celery.concurrency.prefork.TaskPool`, `asyncio` for AsyncioPool."""
    if pool.__name__ == "TaskPool":
        return pool.__module__.rpartition(".")[2]
    return pool.__name__.removesuffix("Pool").lower()


def _held() -> dict[str, int]:
    """How many jobs of which queue this worker holds."""
    held: Counter[str] = Counter()
    for request in all_of(state.reserved_requests):
        held[str((request.delivery_info or {}).get("routing_key"))] += 1
    return dict(held)
