"""The one event loop of a worker process whose pool has none, in a thread of its own."""

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate

from service.worker.interrupt import Interruptible, SoftLimitCancelledError

V = TypeVar("V")

logger: Final = logging.getLogger(__name__)


class ProcessLoop:
    """Runs coroutines for synchronous code. Made after fork, which no thread survives."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def run(
        self, coroutine: Coroutine[Any, Any, V], context: contextvars.Context | None = None
    ) -> V:
        """Run a coroutine on the loop, in `context`, and wait for what it returns or raises.

        A soft time limit that the pool raises in this thread meanwhile is raised inside the
        coroutine, at the point where it waits.
        """
        body = Interruptible(coroutine)
        outcome: concurrent.futures.Future[V] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(
            lambda: self.loop.create_task(_settle(body, outcome), context=context)
        )
        while True:
            try:
                concurrent.futures.wait([outcome])
                return outcome.result()
            except SoftTimeLimitExceeded as error:
                if outcome.done():
                    raise
                limit = SoftLimitCancelledError(*error.args)
                self.loop.call_soon_threadsafe(body.interrupt, limit)

    def stop(self) -> None:
        """Cancel what still runs, then end the loop and its thread."""
        if self._stopping:
            return
        self.run(_cancel_others())
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self._stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run_forever(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these out of any task; the job that raised it has been told.
                logger.exception("An asyncio task of a job tried to end the worker")


async def _settle(body: Interruptible[V], outcome: concurrent.futures.Future[V]) -> None:
    """Hand over whatever the body does. Nothing may escape: asyncio would end the loop with it."""
    try:
        value = await body.run()
    except (WorkerShutdown, WorkerTerminate) as error:
        outcome.set_exception(error)
    except BaseException as error:  # noqa: BLE001  it is raised again in the waiting thread
        outcome.set_exception(error)
    else:
        outcome.set_result(value)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
