"""What a process that runs jobs keeps for its app: the event loop in a thread, and what uses it."""

import asyncio
import concurrent.futures
import contextvars
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, Final, TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from quart import Quart

from service.parts import parts_of
from service.redis.clients import connect
from service.worker.loop.bridge import (
    Bridge,
    BridgePhase,
    SoftLimitCancelledError,
    await_,
    bridge_task,
    current_bridge,
)
from service.worker.loop.celery_stacks import CURRENT_TASKS, key_by_job
from service.worker.loop.child_tasks import ChildTasks
from service.worker.loop.daemon_threads import DaemonThreads
from service.worker.results.reader import RecordReader
from service.worker.results.writer import ResultsWriter

V = TypeVar("V")

logger: Final = logging.getLogger(__name__)

_DEFAULT_THREADS: Final = 32
_CALLERS: Final = 16  # threads for Celery's blocking calls, for which bodies must not have to wait
_STOP_TIMEOUT: Final = 2.0  # seconds for tasks that are left on the loop to end once cancelled
_EXTENSION: Final = "service.worker"
_making: Final = threading.Lock()


class ProcessLoop:
    """Runs coroutines for synchronous code. Made after fork, which no thread survives."""

    def __init__(self, sync_threads: int) -> None:
        key_by_job(CURRENT_TASKS)
        has_uvloop = importlib.util.find_spec("uvloop") is not None
        loops: Any = importlib.import_module("uvloop") if has_uvloop else asyncio
        self.loop: asyncio.AbstractEventLoop = loops.new_event_loop()
        self.loop.set_task_factory(ChildTasks().make)
        self.threads = DaemonThreads(sync_threads, name="sync-body")
        self._callers = DaemonThreads(_CALLERS, name="blocking-call")
        # For `asyncio.to_thread` in bodies, which must not keep the worker from ending.
        self.loop.set_default_executor(DaemonThreads(_DEFAULT_THREADS, name="to-thread"))
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []  # called before it ends
        self._stopping = False
        self.thread = threading.Thread(target=self._run_forever, name="event-loop", daemon=True)
        self.thread.start()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the loop's thread."""
        return threading.get_ident() == self.thread.ident

    def run(
        self, coroutine: Coroutine[Any, Any, V], context: contextvars.Context | None = None
    ) -> V:
        """Run a coroutine on the loop, in `context`, and wait for what it returns or raises.

        A soft time limit that the pool raises in this thread meanwhile is raised inside the
        coroutine, at the point where it waits. Raises RuntimeError on the loop itself, which
        would wait for itself.
        """
        if self.is_here:
            coroutine.close()
            raise RuntimeError(
                "This blocks the event loop that it waits for."
                " Await the function itself, or enqueue a job."
            )
        bridge = Bridge(_drive_body, coroutine)
        outcome: concurrent.futures.Future[V] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(
            lambda: bridge_task(_finish(bridge, outcome), self.loop, context)
        )
        while True:
            try:
                concurrent.futures.wait([outcome])
                return outcome.result()
            except SoftTimeLimitExceeded as error:
                if outcome.done():
                    raise
                limit = SoftLimitCancelledError(*error.args)
                self.loop.call_soon_threadsafe(bridge.interrupt, limit)

    async def in_thread(self, function: Callable[[], V]) -> V:
        """Call a function in one of the threads for sync bodies, in a copy of this context."""
        call = self.threads.submit(contextvars.copy_context().run, function)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if call.running():
                self.threads.lose(call)
            raise

    def is_needed(self) -> bool:
        """Whether the caller runs on the loop, in code that can wait for a thread (OffLoop)."""
        return self.is_here and current_bridge() is not None

    def call(self, function: Callable[[], V]) -> V:
        """Make a blocking call in a thread, from a bridge (OffLoop)."""
        call = self._callers.submit(contextvars.copy_context().run, function)
        return await_(asyncio.wrap_future(call))

    def call_soon(
        self,
        function: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> None:
        """Call a function in the loop's thread; from any thread, and from signal handlers."""
        if not self._stopping:
            self.loop.call_soon_threadsafe(function, *args, context=context)

    def stop(self) -> None:
        """Cancel the tasks that still run, then end the loop and its thread."""
        if self._stopping:
            return
        self.run(_cancel_others())
        for close in self.closers:
            self.run(close())
        self.run(self.loop.shutdown_asyncgens())
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these out of any task; the job that raised it has failed by now.
                logger.exception("An asyncio task of a job tried to end the worker")


def _drive_body(coroutine: Coroutine[Any, Any, V]) -> V:
    bridge = current_bridge()
    assert bridge is not None  # noqa: S101  ProcessLoop.run makes the bridge
    return bridge.await_body(coroutine, BridgePhase.COROUTINE)


async def _finish(bridge: Bridge, outcome: concurrent.futures.Future[V]) -> None:
    """Set what the body returns or raises as the outcome.

    Nothing may escape: asyncio lets some errors out of its loop, which would end it.
    """
    try:
        value = await bridge.run()
    except BaseException as error:  # noqa: BLE001  it is raised again in the waiting thread
        outcome.set_exception(error)
    else:
        outcome.set_result(value)


async def _cancel_others() -> None:
    """Cancel the tasks that the app and its jobs left behind, and give them a moment to end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_STOP_TIMEOUT)


class WorkerProcess:
    """Made anew after a fork, which a loop's thread does not survive."""

    def __init__(self, app: Quart) -> None:
        self.pid = os.getpid()
        self.prefork_pool: Any = None  # set in the parent of its children
        self._settings = parts_of(app).settings
        self._loop: ProcessLoop | None = None

    @property
    def loop(self) -> ProcessLoop:
        """The loop for the app's coroutines; made when it is first needed."""
        with _making:
            if self._loop is None:
                self._loop = ProcessLoop(self._settings.sync_threads)
            return self._loop

    @property
    def is_on_loop(self) -> bool:
        """Whether the caller runs on the loop. Makes none: prefork's parent must not have one."""
        return self._loop is not None and self._loop.is_here

    @cached_property
    def writer(self) -> ResultsWriter:
        """Writes records. To be asked for on the loop."""
        writer = ResultsWriter(connect(self._settings), self.loop.loop)
        self.loop.closers.append(writer.close)
        return writer

    @cached_property
    def reader(self) -> RecordReader:
        """Reads records. To be asked for on the loop."""
        settings = self._settings
        reader = RecordReader(connect(settings), timeout=settings.redis_timeout)
        self.loop.closers.append(reader.close)
        return reader


def process_of(app: Quart) -> WorkerProcess:
    """The WorkerProcess of the app in this process; made when it is first needed."""
    process: WorkerProcess | None = app.extensions.get(_EXTENSION)
    if process is None or process.pid != os.getpid():
        with _making:
            process = app.extensions.get(_EXTENSION)
            if process is None or process.pid != os.getpid():
                process = app.extensions[_EXTENSION] = WorkerProcess(app)
    return process
