"""The event loop of a process that runs jobs: runs coroutines for synchronous code."""

import asyncio
import concurrent.futures
import contextvars
import importlib.util
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

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

V = TypeVar("V")

logger: Final = logging.getLogger(__name__)

_DEFAULT_THREADS: Final = 32
_CALLERS: Final = 16  # threads for Celery's blocking calls, for which bodies must not have to wait
_STOP_TIMEOUT: Final = 2.0  # seconds for tasks that are left on the loop to end once cancelled
_TURN: Final = 1.0  # seconds without a turn after which the loop counts as blocked


class ProcessLoop:
    """Runs coroutines for synchronous code. Made after fork, which no thread survives.

    It has a thread of its own, or is given the `running` loop of the thread that makes it, as by a
    test. That one is given back by `leave`, and has no `stop`.
    """

    def __init__(self, sync_threads: int, running: asyncio.AbstractEventLoop | None = None) -> None:
        key_by_job(CURRENT_TASKS)
        self.loop = _new_loop() if running is None else running
        self._factory_before = self.loop.get_task_factory()
        self.loop.set_task_factory(ChildTasks().make)
        threads = partial(DaemonThreads, call_later=self._call_later)
        self.threads = threads(sync_threads, name="sync-body")
        self._callers = threads(_CALLERS, name="blocking-call")
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []  # called before it ends
        self._stopping = False
        self.is_left = False  # to jobs that do not end: they go on until the process ends
        self.thread = threading.current_thread()
        if running is None:
            # For `asyncio.to_thread` in bodies, which must not keep the worker from ending.
            self.loop.set_default_executor(threads(_DEFAULT_THREADS, name="to-thread"))
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
        bridge, run = current_bridge(), contextvars.copy_context().run

        def begin() -> V:
            if bridge is not None:
                bridge.thread = threading.get_ident()
            return run(function)

        call = self.threads.submit(begin)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            if call.running():
                self.threads.lose(call)
            raise
        finally:
            if bridge is not None:
                bridge.thread = None

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

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.call_soon(self.loop.call_later, seconds, function)

    def turns(self) -> bool:
        """Whether the loop is not blocked."""
        turned = threading.Event()
        self.call_soon(turned.set)
        return turned.wait(_TURN)

    def stop(self) -> None:
        """Cancel the tasks that still run, then end the loop and its thread."""
        if self._stopping or self.is_left:
            return
        self.run(self._cancel_and_close())
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def leave(self) -> None:
        """End what was added to a loop that others run, and go on running."""
        for close in self.closers:
            await close()
        self._stopping = True
        self.threads.shutdown()
        self._callers.shutdown()
        self.loop.set_task_factory(self._factory_before)

    async def _cancel_and_close(self) -> None:
        """Cancel the tasks that the app and its jobs left behind, and give them a moment to end."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_STOP_TIMEOUT)
        for close in self.closers:
            await close()
        await self.loop.shutdown_asyncgens()

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these out of any task; the job that raised it has failed by now.
                logger.exception("An asyncio task of a job tried to end the worker")


def _new_loop() -> asyncio.AbstractEventLoop:
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    loops: Any = importlib.import_module("uvloop") if has_uvloop else asyncio
    loop: asyncio.AbstractEventLoop = loops.new_event_loop()
    return loop


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
