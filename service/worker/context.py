"""Runs a task's function, sync or `async def`, inside a fresh Quart app context."""

import contextvars
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final

from quart import Quart

from service.jobs.current import CurrentJob, running
from service.results.connection import bounded, get_redis
from service.results.model import Progress
from service.settings import get_settings
from service.worker.lifespan import get_loop
from service.worker.loop import ProcessLoop
from service.worker.progress import ProgressWriter
from service.worker.stacks import own_stacks

_STORE_PROGRESS: Final = (files("service.worker") / "progress.lua").read_text()


def call_in_context(
    task: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call the function for the task's current request, and wait for it if it is a coroutine.

    Returns and raises what the function does; an error of a teardown function counts as its own.
    """
    app: Quart = task.app.quart_app
    loop = get_loop(app)
    call = _Call(task, function, args, kwargs, loop)
    context = contextvars.copy_context()
    if inspect.iscoroutinefunction(function):
        return loop.run(call.on_loop(app), context)
    return call.in_this_thread(app, context)


class _Call:
    """One call of a body or a hook: what is set up around it, and taken down after."""

    def __init__(
        self,
        task: Any,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        loop: ProcessLoop,
    ) -> None:
        self._task = task
        self._request = task.request
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._loop = loop
        self._progress = ProgressWriter(loop.loop, self._store_progress)
        self._job = CurrentJob(
            id=self._request.id,
            task=task.name,
            retries=self._request.retries or 0,
            report=self._progress.report,
        )

    async def on_loop(self, app: Quart) -> Any:
        """Call a coroutine function, on the event loop."""
        with own_stacks(self._task, self._request):
            running.set(self._job)
            try:
                async with app.app_context():
                    return await self._function(*self._args, **self._kwargs)
            finally:
                await self._progress.finish()

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
            value = self._function(*self._args, **self._kwargs)
            if inspect.iscoroutine(value):  # a plain function that wraps a coroutine function
                value = self._loop.run(value, contextvars.copy_context())
            return value

    async def _store_progress(self, progress: Progress) -> None:
        task, app = self._task, self._task.app.quart_app
        record = task.backend.progress_record(self._request, asdict(progress))
        timeout = get_settings(app).redis_timeout
        async with bounded(timeout):
            await get_redis(app).eval(
                _STORE_PROGRESS,
                1,
                task.backend.get_key_for_task(self._request.id),
                record,
                task.backend.expires or 0,
            )
