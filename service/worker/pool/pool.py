"""AsyncioPool, the worker pool that runs thousands of jobs on one event loop."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from itertools import count
from typing import Any, Final

from celery import signals
from celery.concurrency.base import BasePool

from service.broker.celery_worker import is_stopping_at_once
from service.broker.messages import use_in_celery
from service.parts import parts_of
from service.worker.loop.bridge import Bridge, bridge_task
from service.worker.loop.lifespan import get_loop
from service.worker.pool.gc_tuning import look_for_garbage_seldom
from service.worker.pool.job import CANCEL_TIME, Call, RunningJob
from service.worker.pool.main_thread import MainThread, nothing
from service.worker.pool.watchdog import Watchdog

logger: Final = logging.getLogger(__name__)

_FIRST_PID: Final = 1 << 32  # above every process id, which nobody must take these for
_STARTS_AT_ONCE: Final = 64  # jobs begun in one turn of the loop, which has others to serve


class AsyncioPool(BasePool):
    """Runs each job's tracer in a bridge on the process's loop.

    Celery calls it from the worker's main thread, and is called back there.
    """

    signal_safe = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = parts_of(self.app.quart_app).settings
        self._waiting: deque[Call] = deque()
        self._running: dict[int, RunningJob] = {}
        self._aside: set[asyncio.Task[Any]] = set()
        self._pids = count(_FIRST_PID)
        # What all jobs start with. It is often a job that ends that makes room for the next one,
        # whose contextvars are none of that one's business.
        self._context = copy_context()
        self._admitting = False
        self._closed = False
        self._main_thread = MainThread()
        self._stopping = False
        self._signals = 0
        self._ended = False

    # What Celery calls, in the worker's main thread.

    def on_start(self) -> None:
        """Find the loop, which the app's start-up will run on too."""
        self._process_loop = get_loop(self.app.quart_app)
        self.loop = self._process_loop.loop
        self._idle = asyncio.Event()
        self._hurry = asyncio.Event()
        self._watchdog = Watchdog(self._process_loop, self._settings.loop_warn, self._running)
        self._watchdog.start()
        use_in_celery()
        look_for_garbage_seldom()
        signals.worker_shutting_down.connect(self._on_signal)

    def register_with_event_loop(self, hub: Any) -> None:
        """Have the main thread told of jobs from now on."""
        self._main_thread.attach(hub)

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
    ) -> Call:
        """Start the job when there is room."""
        call = Call(
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
        self._process_loop.call_soon(self._revoke, pid)

    def grow(self, n: int = 1) -> None:
        """Let `n` more jobs run at once."""
        self.limit += n
        self._admit_soon()

    def shrink(self, n: int = 1) -> None:
        """Let `n` fewer jobs run at once; those that run go on."""
        self.limit = max(1, self.limit - n)

    def flush(self) -> None:
        """Forget what has not begun: its messages go back with the connection they came on."""
        self._waiting.clear()

    def on_close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def on_stop(self) -> None:
        """Let what runs finish; after SERVICE_GRACE give the rest back. Returns when all ended."""
        if self._stopping:
            return
        self._closed = self._stopping = True
        self._process_loop.call_soon(self._begin_to_stop)
        self._main_thread.make_calls_until(lambda: self._ended)
        self._watchdog.stop()
        signals.worker_shutting_down.disconnect(self._on_signal)
        self._main_thread.close()

    def on_terminate(self) -> None:
        """Stop at once."""
        self._process_loop.call_soon(self._hurry.set)
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
        """Note a signal that asks the worker to stop. Called from the signal handler."""
        self._signals += 1
        if self._signals > 1 or how == "Cold":
            self._process_loop.call_soon(self._hurry.set)
        else:
            # The main thread sleeps until something happens: Celery looks at its flags then.
            self._process_loop.call_soon(self.tell, nothing)

    # What happens on the loop.

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """Make a call in the worker's main thread; calls are made in the order given."""
        self._main_thread.tell(function, *args)

    def run_aside(self, function: Callable[[], Any]) -> None:
        """Run synchronous code in a bridge of its own."""
        task = bridge_task(Bridge(function).run(), self.loop, copy_context())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def ended(self, job: RunningJob) -> None:
        """Take back the job's place."""
        if self._running.pop(job.pid, None) is None:
            return
        if self._waiting:
            self._admit_soon()
        if not self._running:
            self._idle.set()

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

    def _revoke(self, pid: int) -> None:
        if job := self._running.get(pid):
            job.revoke()

    def _begin_to_stop(self) -> None:
        self._aside.add(self.loop.create_task(self._stop_running()))

    async def _stop_running(self) -> None:
        try:
            await self._wind_down()
        except Exception:
            logger.exception("The jobs that run could not be ended in order")
        finally:
            self._ended = True
            self.tell(nothing)

    async def _wind_down(self) -> None:
        grace = 0.0 if is_stopping_at_once() else self._settings.grace
        await self._until_idle_or_hurry(grace)
        if self._running:
            running = list(self._running.values())
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

    async def _until_idle_or_hurry(self, seconds: float) -> None:
        hurry = self.loop.create_task(self._hurry.wait())
        idle = self.loop.create_task(self._until_idle(seconds))
        await asyncio.wait({hurry, idle}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        idle.cancel()

    async def _until_idle(self, seconds: float) -> None:
        if not self._running:
            return
        self._idle.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
