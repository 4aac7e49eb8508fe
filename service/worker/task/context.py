"""Runs a task's function, sync or `async def`, inside a fresh Quart app context."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from quart import Quart

from service.jobs.job import CurrentJob, running
from service.results.model import Progress
from service.worker.loop.bridge import Bridge, Stretch, current_bridge
from service.worker.loop.celery_stacks import own_stacks
from service.worker.loop.exceptions import JobCancelledError
from service.worker.loop.lifespan import get_loop
from service.worker.loop.process_loop import ProcessLoop
from service.worker.results.writer import get_writer
from service.worker.task.progress import ProgressWriter

logger: Final = logging.getLogger(__name__)


def call_in_context(  # noqa: PLR0913  what it keeps
    task: Any,
    request: Any,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    is_body: bool = False,
) -> Any:
    """Call the function for the task's request, and wait for it if it is a coroutine.

    Returns and raises what the function does; an error of a teardown function counts as its own.
    """
    app: Quart = task.app.quart_app
    loop = get_loop(app)
    is_coroutine = inspect.iscoroutinefunction(function)
    call = _Call(task, request, function, args, kwargs, loop, is_body=is_body)
    if (bridge := current_bridge()) is not None:
        return call.in_bridge(app, bridge, Stretch.COROUTINE if is_coroutine else Stretch.THREAD)
    context = contextvars.copy_context()
    if is_coroutine:
        return loop.run(call.on_loop(app), context)
    return call.in_this_thread(app, context)


class _Call:
    """One call of a body or a hook: what is set up around it, and taken down after."""

    __slots__ = (
        "_args",
        "_function",
        "_is_body",
        "_kwargs",
        "_loop",
        "_progress",
        "_request",
        "_task",
    )

    def __init__(  # noqa: PLR0913, PLR0917  what it keeps
        self,
        task: Any,
        request: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        loop: ProcessLoop,
        *,
        is_body: bool,
    ) -> None:
        self._task = task
        self._request = request
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._loop = loop
        self._is_body = is_body
        self._progress: ProgressWriter | None = None

    def _current_job(self) -> CurrentJob:
        """What the body may know; not kept here, as it keeps this: the cycle would outlive them."""
        return CurrentJob(
            id=self._request.id,
            # An errback belongs to the job that failed, which is another task's.
            task=getattr(self._request, "task", None) or self._task.name,
            retries=self._request.retries or 0,
            report=self._report,
        )

    def in_bridge(self, app: Quart, bridge: Bridge, kind: Stretch) -> Any:
        """Call the function from the tracer's bridge, on the loop or in one of its threads.

        Raises JobCancelledError in the place of whatever a cancelled job does.
        """
        if bridge.cancelled:
            raise JobCancelledError
        body = self._in_app_context(app, bridge if kind is Stretch.THREAD else None)
        try:
            value = bridge.await_body(body, kind)
        except asyncio.CancelledError:
            if bridge.cancelled:
                raise JobCancelledError from None
            raise
        except Exception as error:
            if bridge.cancelled:
                logger.warning("%s, being cancelled, raised %r", self._current_job(), error)
                raise JobCancelledError from error
            raise
        if bridge.cancelled:
            raise JobCancelledError
        return value

    async def on_loop(self, app: Quart) -> Any:
        """Call a coroutine function on the event loop, for a thread that waits for it."""
        with own_stacks(self._task, self._request):
            return await self._in_app_context(app, None)

    async def _in_app_context(self, app: Quart, waiting: Bridge | None) -> Any:
        """Call the function: in a thread, if there is a bridge that waits for it."""
        token = running.set(self._current_job())
        try:
            async with app.app_context():
                if waiting is not None:
                    value = await self._loop.in_thread(self._make)
                    if inspect.iscoroutine(value):  # of an `async def` behind a sync decorator
                        return await waiting.as_coroutine(value)
                    return value
                return await self._function(*self._args, **self._kwargs)
        finally:
            # From here on no limit makes a failure of what it has done.
            if self._is_body and (bridge := current_bridge()) is not None:
                bridge.stretch = Stretch.AROUND
                bridge.body_is_over = True
            if self._progress is not None:
                await self._progress.finish()
            running.reset(token)

    def in_this_thread(self, app: Quart, context: contextvars.Context) -> Any:
        """Call a plain function where Celery put it; the app context is pushed on the loop.

        Quart pushes and pops asynchronously, and both have to happen in one `Context`.
        """
        app_context = app.app_context()
        self._loop.run(app_context.push(), context)
        error: BaseException | None = None
        try:
            return context.run(self._call)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._loop.run(app_context.pop(error), context)
            if self._progress is not None:
                self._loop.run(self._progress.finish(), context)

    def _call(self) -> Any:
        with own_stacks(self._task, self._request):
            running.set(self._current_job())
            value = self._make()
            return self._loop.run(value) if inspect.iscoroutine(value) else value

    def _make(self) -> Any:
        return self._function(*self._args, **self._kwargs)

    def _report(self, progress: Progress) -> None:
        if self._progress is None:  # most jobs never report
            self._progress = ProgressWriter(self._loop.loop, self._store_progress)
        self._progress.report(progress)

    async def _store_progress(self, progress: Progress) -> None:
        backend = self._task.backend
        await get_writer(self._task.app.quart_app).write(
            backend.progress_write(self._request, asdict(progress))
        )
