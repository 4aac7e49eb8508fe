"""Reports every second how a worker is, and which jobs have begun to run for long."""

import logging
import time
from collections import Counter
from typing import Any, Final

from celery.worker import state

from service.broker.celery_worker import all_of
from service.broker.leases.registry import lease_age
from service.signals import JobEvent, WorkerStatus, seconds_since_epoch
from service.worker.loop.thread_step import ThreadStep

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 1.0  # seconds between two reports
_SHOWN_AFTER: Final = 0.3  # seconds that a job runs before it is shown as running


class ReporterStep(ThreadStep):
    """Reports from a thread: a busy event loop does not delay it, nor does it block the loop."""

    requires = ("celery.worker.components:Pool",)
    thread_name = "reporter"

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        self._signals = worker.app.signals
        self._started_at = time.time()
        self._shown: set[str] = set()

    def start(self, worker: Any) -> None:
        """Begin to report, if anybody listens."""
        if self._signals.worker_reported.receivers:
            super().start(worker)

    def run(self) -> None:
        """Report every second, and in the end that this worker leaves."""
        while True:
            try:
                self._report_running()
                self._signals.worker_reported.send(self._worker.hostname, self._status())
            except Exception:
                # A worker that the dashboard does not show is better than one that ends.
                logger.exception("The worker could not report how it is")
            if self.stopping.wait(INTERVAL):
                break
        self._signals.worker_reported.send(self._worker.hostname, None)

    def _report_running(self) -> None:
        """Report the jobs that have run for a while and were not reported yet."""
        now = time.time()
        running: set[str] = set()
        for request in all_of(state.active_requests):
            started = request.time_start or now
            if now - started < _SHOWN_AFTER:
                continue
            running.add(request.id)
            if request.id not in self._shown:
                queued = seconds_since_epoch((request.message.headers or {}).get("queued_at"))
                event = JobEvent(
                    request.id, "STARTED", request.name, started, request.hostname, queued, started
                )
                self._signals.job_changed.send(event)
        self._shown = running

    def _status(self) -> WorkerStatus:
        worker = self._worker
        # `prefork` for Celery's `celery.concurrency.prefork.TaskPool`, `asyncio` for AsyncioPool.
        pool = worker.pool_cls.__name__.removesuffix("Pool").lower()
        if pool == "task":
            pool = worker.pool_cls.__module__.rpartition(".")[2]
        reserved = all_of(state.reserved_requests)
        # A list: a generator would be entered anew for each of what may be thousands.
        queues = [str((each.delivery_info or {}).get("routing_key")) for each in reserved]
        return WorkerStatus(
            pool=pool,
            capacity=worker.pool.num_processes if worker.pool else worker.concurrency,
            running=len(state.active_requests),
            deliveries=dict(Counter(queues)),
            queues=sorted(worker.app.amqp.queues.consume_from),
            started_at=self._started_at,
            lease_age=lease_age(),
        )
