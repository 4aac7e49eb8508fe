"""Runs a task's function, sync or `async def`, in an app context; writes its progress."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from service.errors import ResultsUnavailableError, UnstorableResultError
from service.jobs.job import CurrentJob, running
from service.logs.ids import REQUEST_ID
from service.redis.deadline import Deadline
from service.results.model import Progress
from service.worker.celery_types import JobRequest, JobTask
from service.worker.job_log.buffer import OPEN
from service.worker.job_log.capture import end_log
from service.worker.loop.bridge import Bridge, BridgePhase, JobCancelledError, current_bridge
from service.worker.loop.celery_stacks import own_stacks
from service.worker.loop.forks import COPIES, end_copy
from service.worker.loop.process import process_of
from service.worker.loop.process_loop import ProcessLoop

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 0.1  # seconds between two writes for one job


def due_at(eta: datetime | str | None, countdown: float | None) -> str | None:
    """When a call with these options of Celery's is due, as an ISO time; None for at once."""
    if eta:
        return eta.isoformat() if isinstance(eta, datetime) else eta
    if not countdown:
        return None
    return (datetime.now(UTC) + timedelta(seconds=countdown)).isoformat()


class ProgressWriter:
    """Writes one job's reports on the event loop: the first, and then the latest per INTERVAL.

    `report` may be called from any thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: Callable[[Progress], Awaitable[None]]
    ) -> None:
        self._loop = loop
        self._store = store
        self._latest: Progress | None = None
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def report(self, progress: Progress) -> None:
        """Have this written soon, unless a later report comes first."""
        waiting = self._latest is not None
        self._latest = progress
        if not waiting:
            self._loop.call_soon_threadsafe(self._wake)

    async def finish(self) -> None:
        """Write the last report now. Call it before the result is stored."""
        self._closing.set()
        if self._writing is not None:
            await asyncio.wait([self._writing])  # it may have been cancelled, as the body's tasks
        await self._write()

    def _wake(self) -> None:
        if (self._writing is None or self._writing.done()) and not self._closing.is_set():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        while (progress := self._latest) is not None:
            self._latest = None
            try:
                await self._store(progress)
            except (ResultsUnavailableError, UnstorableResultError) as error:
                logger.warning("A progress report was not stored: %s", error)
            with suppress(TimeoutError):
                async with Deadline(INTERVAL):
                    await self._closing.wait()
        self._writing = None


@dataclass(slots=True, eq=False)
class BodyCall:
    """One call of a body or a hook, with the app context and the current job around it."""

    task: JobTask
    request: JobRequest
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    is_body: bool = False
    is_errback: bool = False
    progress: ProgressWriter | None = None

    def run(self) -> Any:
        """Call the function for the task's request, and wait for it if it is a coroutine.

        Returns and raises what the function does; an error of a teardown function counts as its
        own. Raises JobCancelledError, whatever the function does, once the job is to end.
        """
        is_coroutine = inspect.iscoroutinefunction(self.function)
        if (bridge := current_bridge()) is not None:
            phase = BridgePhase.COROUTINE if is_coroutine else BridgePhase.THREAD
            return self._in_bridge(bridge, phase)
        context = contextvars.copy_context()
        if not is_coroutine:
            return self._in_this_thread(context)

        async def on_loop() -> Any:
            with own_stacks(self.task, self.request):
                return await self._in_app_context(None)

        return process_of(self.task.app.quart_app).loop.run(on_loop(), context)

    def _in_bridge(self, bridge: Bridge, phase: BridgePhase) -> Any:
        """Call the function from the tracer's bridge, on the loop or in one of its threads."""
        if self.is_errback:
            waiting = bridge if phase is BridgePhase.THREAD else None
            return bridge.await_body(self._in_app_context(waiting), BridgePhase.ERRBACK)
        if bridge.end_reason is not None:
            raise JobCancelledError
        body = self._in_app_context(bridge if phase is BridgePhase.THREAD else None)
        try:
            value = bridge.await_body(body, phase)
        except (asyncio.CancelledError, Exception) as error:
            if bridge.end_reason is None:
                raise
            if not isinstance(error, asyncio.CancelledError):
                logger.warning("%s, being cancelled, raised %r", self._current_job(), error)
            raise JobCancelledError from error
        if bridge.end_reason is not None:
            raise JobCancelledError
        return value

    def _in_this_thread(self, context: contextvars.Context) -> Any:
        """Call a plain function where Celery put it; the app context is pushed on the loop.

        Quart pushes and pops asynchronously, and both have to happen in one `Context`.
        """
        app = self.task.app.quart_app
        loop, app_context = process_of(app).loop, app.app_context()
        loop.run(app_context.push(), context)
        error: BaseException | None = None
        try:
            return context.run(self._call_on_own_stacks, loop)
        except BaseException as raised:
            error = raised
            raise
        finally:
            loop.run(app_context.pop(error), context)
            if self.progress is not None:
                loop.run(self.progress.finish(), context)

    async def _in_app_context(self, waiting: Bridge | None) -> Any:
        """Call the function: in a thread, if there is a bridge that waits for it."""
        token = running.set(self._current_job())
        try:
            app = self.task.app.quart_app
            async with app.app_context():
                if waiting is None:
                    return await self.function(*self.args, **self.kwargs)
                call = partial(self.function, *self.args, **self.kwargs)
                value = await process_of(app).loop.in_thread(call)
                if inspect.iscoroutine(value):  # of an `async def` behind a sync decorator
                    waiting.phase = BridgePhase.COROUTINE
                    value = await value
                return value
        finally:
            # From here on no limit turns the outcome of the body into a failure.
            if self.is_body and (bridge := current_bridge()) is not None:
                bridge.phase = BridgePhase.AROUND
                bridge.body_is_over = True
            if self.progress is not None:
                await self.progress.finish()
            if OPEN:
                end_log(running.get())
            running.reset(token)

    def _call_on_own_stacks(self, loop: ProcessLoop) -> Any:
        with own_stacks(self.task, self.request):
            running.set(self._current_job())
            try:
                value = self.function(*self.args, **self.kwargs)
            finally:
                if COPIES:
                    end_copy()
                if OPEN:
                    end_log(running.get())
            return loop.run(value) if inspect.iscoroutine(value) else value

    def _current_job(self) -> CurrentJob:
        """Made anew, not kept: it refers to this object, and the cycle would outlive both."""
        return CurrentJob(
            id=self.request.id,
            # An errback belongs to the job that failed, which is another task's.
            task=getattr(self.request, "task", None) or self.task.name,
            retries=self.request.retries or 0,
            report=self._report,
            request_id=getattr(self.request, REQUEST_ID, None),
            started_at=getattr(self.request, "started_at", None),
        )

    def _report(self, progress: Progress) -> None:
        if self.progress is None:  # most jobs never report
            loop = process_of(self.task.app.quart_app).loop.loop
            self.progress = ProgressWriter(loop, self._store_progress)
        self.progress.report(progress)

    async def _store_progress(self, progress: Progress) -> None:
        write = self.task.backend.progress_write(self.request, asdict(progress))
        await process_of(self.task.app.quart_app).writer.write(write)
