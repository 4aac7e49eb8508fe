"""AsyncioPool, the worker pool that runs thousands of jobs on one event loop."""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from itertools import count
from typing import Any, Final

from celery.concurrency.base import BasePool

from service.broker.celery_worker import is_stopping_at_once
from service.broker.messages import use_in_celery
from service.parts import parts_of
from service.worker.loop.bridge import Bridge, bridge_task
from service.worker.loop.process import process_of
from service.worker.pool.drain import Drain
from service.worker.pool.main_thread import MainThread
from service.worker.pool.running_job import RunningJob
from service.worker.pool.tracer_call import TracerCall
from service.worker.pool.watchdog import Watchdog

logger: Final = logging.getLogger(__name__)

_FIRST_PID: Final = 1 << 32  # above every process id, so that no pid of a job is one
_STARTS_AT_ONCE: Final = 64  # jobs begun in one turn of the loop, which has others to serve
_PYTHONS_GC: Final = (700, 10, 10)  # the thresholds that Python starts with
_GC_THRESHOLDS: Final = (10_000, 20, 20)


class AsyncioPool(BasePool):
    """Runs each job's tracer in a bridge on the process's loop.

    Celery calls it from the worker's main thread, and is called back there.
    """

    signal_safe = False
    body_can_be_buffer = True
    is_watched = True  # the loop, for a job that blocks it
    task_join_will_block = False  # a body may wait for others, as under Celery's greenlet pools

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = parts_of(self.app.quart_app).settings
        self._waiting: deque[TracerCall] = deque()
        self._running: dict[int, RunningJob] = {}
        self._other_tasks: set[asyncio.Task[Any]] = set()  # asyncio keeps no reference to them
        self._pids = count(_FIRST_PID)
        # Base context of every job; else a job would inherit the contextvars of the one before it,
        # whose end freed the slot.
        self._context = copy_context()
        self._admitting = False
        self._closed = False
        self.main_thread = MainThread()

    # Celery calls these in the worker's main thread.

    def on_start(self) -> None:
        """Find the loop, which the app's start-up will run on too, and make the process quicker."""
        self.find_loop()
        use_in_celery()
        # With thousands of jobs in flight Python's own pace of collecting garbage is a quarter of a
        # job's cost, for next to nothing: a job that ends leaves no cycles.
        gc.collect()
        gc.freeze()
        if gc.get_threshold() == _PYTHONS_GC:  # no pace of the user's own
            gc.set_threshold(*_GC_THRESHOLDS)

    def find_loop(self) -> None:
        """Find the loop of the app's jobs in this process, and watch it."""
        process = process_of(self.app.quart_app)
        self._process_loop = process.loop
        self.loop = self._process_loop.loop
        self._drain = Drain(process, self.main_thread, self._running, grace=self._settings.grace)
        self._watchdog = Watchdog(self._process_loop, self._settings.loop_warn, self._running)
        if self.is_watched:
            self._watchdog.start()

    def register_with_event_loop(self, hub: Any) -> None:
        """Have Celery's hub make the calls in the main thread from now on."""
        self.main_thread.attach(hub)

    def on_apply(  # type: ignore[override]  # noqa: PLR0913, PLR0917  Celery's own
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> TracerCall:
        """Start the job when a slot is free."""
        call = TracerCall(
            target=target,
            args=args,
            kwargs=kwargs,
            on_accepted=accept_callback,
            on_success=callback,
            on_error=error_callback,
            on_timeout=timeout_callback,
            soft_limit=soft_timeout or self.options.get("soft_timeout"),
            hard_limit=timeout or self.options.get("timeout"),
        )
        self._waiting.append(call)
        self._admit_soon()
        return call

    def find_job(self, job_id: str) -> RunningJob | None:
        """The job, if it runs here."""
        return next((job for job in [*self._running.values()] if job.id == job_id), None)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Cancel the one job that was accepted under this pid."""
        del signal

        def revoke() -> None:
            if job := self._running.get(pid):
                job.revoke()

        self._process_loop.call_soon(revoke)

    def grow(self, n: int = 1) -> None:
        """Let `n` more jobs run at once."""
        self.limit += n
        self._admit_soon()

    def shrink(self, n: int = 1) -> None:
        """Let `n` fewer jobs run at once; the running ones go on."""
        self.limit = max(1, self.limit - n)

    def flush(self) -> None:
        """Forget the jobs that have not begun: the connection to return their messages is lost."""
        self._waiting.clear()

    def on_close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def on_stop(self) -> None:
        """Let running jobs finish; after SERVICE_GRACE give them back. Bounded: see Drain.

        In a cold shutdown Celery calls this from its signal handler, and `on_terminate` later. No
        handler may wait: the main thread may hold a lock beneath it that the jobs' ends need.
        """
        self._closed = True
        if not is_stopping_at_once():
            self._end_jobs()

    def on_terminate(self) -> None:
        """Stop at once."""
        self._closed = True
        self._end_jobs()

    def _end_jobs(self) -> None:
        self._drain.run()
        self._watchdog.stop()

    def _get_info(self) -> dict[str, Any]:
        threads = self._process_loop.threads
        return {
            **super()._get_info(),  # type: ignore[misc]  # not in celery-types
            "running": len(self._running),
            "waiting": len(self._waiting),
            "loop": type(self.loop).__module__,
            "sync-threads": {"size": threads.size, "lost": threads.lost},
        }

    # The rest runs on the loop.

    def run_in_bridge(self, function: Callable[[], Any]) -> None:
        """Run synchronous code in a bridge of its own."""
        self._keep(bridge_task(Bridge(function).run(), self.loop, copy_context()))

    def free_slot(self, job: RunningJob) -> None:
        """Take back the job's slot."""
        if self._running.pop(job.pid, None) is None:
            return
        if self._waiting:
            self._admit_soon()
        if self._closed:
            self.main_thread.wake()

    def _admit_soon(self) -> None:
        if not self._admitting:
            self._admitting = True
            self._process_loop.call_soon(self._admit, context=self._context)

    def _admit(self) -> None:
        self._admitting = False
        started: list[RunningJob] = []
        while self._waiting and len(self._running) < self.limit and not self._closed:
            if len(started) == _STARTS_AT_ONCE:
                self._admit_soon()
                break
            try:
                call = self._waiting.popleft()
            except IndexError:  # the main thread has flushed them
                break
            job = RunningJob(self, call, next(self._pids))
            self._running[job.pid] = job
            job.start()
            started.append(job)
        if started:
            self.loop.call_soon(_see_to, started)  # after the first step of their tasks

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._other_tasks.add(task)
        task.add_done_callback(self._other_tasks.discard)


def _see_to(started: list[RunningJob]) -> None:
    for job in started:
        job.requeue_if_cut_off()
