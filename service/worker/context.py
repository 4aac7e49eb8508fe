"""Runs a task's function, sync or `async def`, inside a fresh Quart app context."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from quart import Quart

from service.jobs.current import CurrentJob, running
from service.results.model import Progress
from service.worker.bridge import Stretch, await_, current_bridge, stretch
from service.worker.interrupt import JobCancelledError
from service.worker.lifespan import get_loop
from service.worker.loop import ProcessLoop
from service.worker.progress import ProgressWriter
from service.worker.stacks import own_stacks
from service.worker.writer import get_writer

logger: Final = logging.getLogger(__name__)


def call_in_context(
    task: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call the function for the task's current request, and wait for it if it is a coroutine.

    Returns and raises what the function does; an error of a teardown function counts as its own.
    """
    app: Quart = task.app.quart_app
    loop = get_loop(app)
    is_coroutine = inspect.iscoroutinefunction(function)
    call = _Call(task, partial(function, *args, **kwargs), loop)
    if current_bridge() is not None:
        if is_coroutine:
            return call.in_bridge(app, Stretch.COROUTINE)
        return call.in_bridge(app, Stretch.THREAD)
    context = contextvars.copy_context()
    if is_coroutine:
        return loop.run(call.on_loop(app), context)
    return call.in_this_thread(app, context)


class _Call:
    """One call of a body or a hook: what is set up around it, and taken down after."""

    def __init__(self, task: Any, function: Callable[[], Any], loop: ProcessLoop) -> None:
        self._task = task
        self._request = task.request
        self._function = function
        self._loop = loop
        self._progress = ProgressWriter(loop.loop, self._store_progress)
        self._job = CurrentJob(
            id=self._request.id,
            task=task.name,
            retries=self._request.retries or 0,
            report=self._progress.report,
        )

    def in_bridge(self, app: Quart, kind: Stretch) -> Any:
        """Call the function from the tracer's bridge, on the loop or in one of its threads.

        Raises JobCancelledError in the place of whatever a cancelled job does.
        """
        bridge = current_bridge()
        assert bridge is not None  # noqa: S101  the caller looked
        if bridge.cancelled:
            raise JobCancelledError
        try:
            with stretch(kind):
                value = await_(self.on_loop(app, in_thread=kind is Stretch.THREAD))
        except asyncio.CancelledError:
            if bridge.cancelled:
                raise JobCancelledError from None
            raise
        except Exception as error:
            if bridge.cancelled:
                logger.warning("%s, being cancelled, raised %r", self._job, error)
                raise JobCancelledError from error
            raise
        if bridge.cancelled:
            raise JobCancelledError
        return value

    async def on_loop(self, app: Quart, *, in_thread: bool = False) -> Any:
        """Call the function inside an app context that is pushed and popped on the loop."""
        with own_stacks(self._task, self._request):
            token = running.set(self._job)
            try:
                async with app.app_context():
                    if in_thread:
                        value = await self._loop.in_thread(self._function)
                        return await value if inspect.iscoroutine(value) else value
                    return await self._function()
            finally:
                if self._progress.used:
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
            if self._progress.used:
                self._loop.run(self._progress.finish(), context)

    def _call(self) -> Any:
        with own_stacks(self._task, self._request):
            running.set(self._job)
            value = self._function()
        return self._loop.run(value) if inspect.iscoroutine(value) else value

    async def _store_progress(self, progress: Progress) -> None:
        backend = self._task.backend
        await get_writer(self._task.app.quart_app).write(
            backend.progress_entry(self._request, asdict(progress))
        )
