"""Threads for blocking code beside the event loop: bodies, Celery's calls, `asyncio.to_thread`."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger: Final = logging.getLogger(__name__)


class DaemonThreads(ThreadPoolExecutor):
    """An executor whose threads do not keep a process from ending.

    A body in a thread can't be killed, and Python waits for the standard executor's threads
    when it exits. It is a ThreadPoolExecutor in name only: asyncio asks for one.
    """

    def __init__(self, size: int, *, name: str) -> None:
        super().__init__(1)
        self.size = size
        self.lost = 0  # threads whose call was given up and has not returned
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(  # type: ignore[override]  # the base names its parameters with two underscores
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Call the function in one of the threads."""
        future: Future[R] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = function(*args, **kwargs)
            except StopIteration as error:  # which no asyncio future can carry
                future.set_exception(RuntimeError(f"The function raised {error!r}."))
            except BaseException as error:  # noqa: BLE001  it is raised where the future is read
                future.set_exception(error)
            else:
                future.set_result(value)

        self._work.put(call)
        if not self._idle.acquire(blocking=False):
            with self._counting:
                if self._started < self.size:
                    self._started += 1
                    name = f"{self._name}-{self._started}"
                    threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def lose(self, call: Future[Any]) -> None:
        """Count the thread that makes this call as lost until the call returns."""

        def find(_: Future[Any]) -> None:
            with self._counting:
                self.lost -= 1

        with self._counting:
            self.lost += 1
        logger.error(
            "%s of %s threads for sync bodies are lost: they run jobs that were given up, and a"
            " thread can't be stopped. Tasks that may hang belong in a worker with -P prefork.",
            self.lost,
            self.size,
        )
        call.add_done_callback(find)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have the threads end after the calls that they were given. Does not wait for them."""
        del wait, cancel_futures
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (call := self._work.get()) is not None:
            call()
            del call  # or an idle thread would keep the last job's arguments alive
            self._idle.release()
