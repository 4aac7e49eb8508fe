"""AsyncioPool, the worker pool that runs thousands of jobs on one event loop."""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from itertools import count
from typing import Any, Final

from celery import signals
from celery.concurrency.base import BasePool

from service.broker.celery_worker import is_stopping_at_once
from service.broker.messages import use_in_celery
from service.parts import parts_of
from service.worker.loop.bridge import Bridge, bridge_task
from service.worker.loop.process import process_of
from service.worker.pool.main_thread import MainThread, nothing
from service.worker.pool.running_job import CANCEL_TIME, RunningJob, TracerCall
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
        self._stopping = False
        self._signals = 0
        self._forced = False  # to stop without waiting for jobs
        self._ended = False

    # Celery calls these in the worker's main thread.

    def on_start(self) -> None:
        """Find the loop, which the app's start-up will run on too."""
        self._process_loop = process_of(self.app.quart_app).loop
        self.loop = self._process_loop.loop
        self._idle_or_forced = asyncio.Event()
        self._watchdog = Watchdog(self._process_loop, self._settings.loop_warn, self._running)
        self._watchdog.start()
        use_in_celery()
        # With thousands of jobs in flight Python's own pace of collecting garbage is a quarter of a
        # job's cost, for next to nothing: a job that ends leaves no cycles.
        gc.collect()
        gc.freeze()
        if gc.get_threshold() == _PYTHONS_GC:  # no pace of the user's own
            gc.set_threshold(*_GC_THRESHOLDS)
        signals.worker_shutting_down.connect(self._on_signal)

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
        """Let running jobs finish; after SERVICE_GRACE give them back. Returns when all ended."""
        if self._stopping:
            return
        self._closed = self._stopping = True
        self._process_loop.call_soon(
            lambda: self._keep(self.loop.create_task(self._stop_running()))
        )
        self.main_thread.make_calls_until(lambda: self._ended)
        self._watchdog.stop()
        signals.worker_shutting_down.disconnect(self._on_signal)
        self.main_thread.close()

    def on_terminate(self) -> None:
        """Stop at once."""
        self._process_loop.call_soon(self._force)
        self.on_stop()

    def _get_info(self) -> dict[str, Any]:
        threads = self._process_loop.threads
        return {
            **super()._get_info(),  # type: ignore[misc]  # not in celery-types
            "running": len(self._running),
            "waiting": len(self._waiting),
            "loop": type(self.loop).__module__,
            "sync-threads": {"size": threads.size, "lost": threads.lost},
        }

    def _on_signal(self, how: str = "", **_: Any) -> None:
        """Heed a signal that asks the worker to stop. Called from the signal handler."""
        self._signals += 1
        if self._signals > 1 or how == "Cold":
            self._process_loop.call_soon(self._force)
        else:
            # The main thread sleeps until something happens: Celery looks at its flags then.
            self._process_loop.call_soon(self.main_thread.call, nothing)

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
        if not self._running:
            self._idle_or_forced.set()

    def _admit_soon(self) -> None:
        if not self._admitting:
            self._admitting = True
            self._process_loop.call_soon(self._admit, context=self._context)

    def _admit(self) -> None:
        self._admitting = False
        for _ in range(_STARTS_AT_ONCE):
            if self._closed or not self._waiting or len(self._running) >= self.limit:
                return
            try:
                call = self._waiting.popleft()
            except IndexError:  # the main thread has flushed them
                return
            job = RunningJob(self, call, next(self._pids))
            self._running[job.pid] = job
            job.start()
        self._admit_soon()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._other_tasks.add(task)
        task.add_done_callback(self._other_tasks.discard)

    def _force(self) -> None:
        self._forced = True
        self._idle_or_forced.set()

    async def _stop_running(self) -> None:
        try:
            if not (self._forced or is_stopping_at_once()):
                await self._until_idle(self._settings.grace, or_forced=True)
            if running := list(self._running.values()):
                returning = sum(job.can_go_back for job in running)
                logger.warning(
                    "The worker stops: %s jobs go back to the queue, %s have failed",
                    returning,
                    len(running) - returning,
                )
                for job in running:
                    job.give_back()
                await self._until_idle(CANCEL_TIME)
            for job in list(self._running.values()):
                logger.error("%r does not end although it was cancelled; it is left behind", job)
                job.leave_behind()
        except Exception:
            logger.exception("The jobs that run could not be ended in order")
        finally:
            self._ended = True
            self.main_thread.call(nothing)

    async def _until_idle(self, seconds: float, *, or_forced: bool = False) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running and not (or_forced and self._forced):
                    self._idle_or_forced.clear()
                    await self._idle_or_forced.wait()
