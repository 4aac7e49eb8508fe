"""Runs a task's function, sync or `async def`, inside a fresh Quart app context."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from quart import Quart

from service.jobs.current import CurrentJob, running
from service.results.model import Progress
from service.worker.celery_types import JobRequest, JobTask
from service.worker.loop.bridge import Bridge, BridgePhase, current_bridge
from service.worker.loop.celery_stacks import own_stacks
from service.worker.loop.end_reason import JobCancelledError
from service.worker.loop.process import WorkerProcess, process_of
from service.worker.task.progress import ProgressWriter

logger: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class BodyCall:
    """One call of a body or a hook, with the app context and the current job around it."""

    task: JobTask
    request: JobRequest
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    is_body: bool = False
    app: Quart = field(init=False)
    process: WorkerProcess = field(init=False)
    progress: ProgressWriter | None = None

    def __post_init__(self) -> None:
        self.app = self.task.app.quart_app
        self.process = process_of(self.app)

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
        if is_coroutine:
            return self.process.loop.run(self._on_loop(), context)
        return self._in_this_thread(context)

    def _in_bridge(self, bridge: Bridge, phase: BridgePhase) -> Any:
        """Call the function from the tracer's bridge, on the loop or in one of its threads."""
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

    async def _on_loop(self) -> Any:
        """Call a coroutine function on the event loop, for a thread that waits for it."""
        with own_stacks(self.task, self.request):
            return await self._in_app_context(None)

    def _in_this_thread(self, context: contextvars.Context) -> Any:
        """Call a plain function where Celery put it; the app context is pushed on the loop.

        Quart pushes and pops asynchronously, and both have to happen in one `Context`.
        """
        loop, app_context = self.process.loop, self.app.app_context()
        loop.run(app_context.push(), context)
        error: BaseException | None = None
        try:
            return context.run(self._call_on_own_stacks)
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
            async with self.app.app_context():
                if waiting is None:
                    return await self._call()
                value = await self.process.loop.in_thread(self._call)
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
            running.reset(token)

    def _call_on_own_stacks(self) -> Any:
        with own_stacks(self.task, self.request):
            running.set(self._current_job())
            value = self._call()
            return self.process.loop.run(value) if inspect.iscoroutine(value) else value

    def _call(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def _current_job(self) -> CurrentJob:
        """Made anew, not kept: it refers to this object, and the cycle would outlive both."""
        return CurrentJob(
            id=self.request.id,
            # An errback belongs to the job that failed, which is another task's.
            task=getattr(self.request, "task", None) or self.task.name,
            retries=self.request.retries or 0,
            report=self._report,
        )

    def _report(self, progress: Progress) -> None:
        if self.progress is None:  # most jobs never report
            self.progress = ProgressWriter(self.process.loop.loop, self._store_progress)
        self.progress.report(progress)

    async def _store_progress(self, progress: Progress) -> None:
        backend = self.task.backend
        await self.process.writer.write(backend.progress_write(self.request, asdict(progress)))
