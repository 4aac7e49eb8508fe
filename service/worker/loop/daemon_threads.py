"""Threads for blocking code beside the event loop: bodies, Celery's calls, `asyncio.to_thread`."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from service.worker.loop.forks import COPIES, end_copy

P = ParamSpec("P")
R = TypeVar("R")

logger: Final = logging.getLogger(__name__)

_RETRY: Final = 0.5  # seconds until a thread that could not be started is tried again


class DaemonThreads(ThreadPoolExecutor):
    """An executor whose threads do not keep a process from ending.

    A body in a thread can't be killed, and Python waits for the standard executor's threads
    when it exits. It is a ThreadPoolExecutor in name only: asyncio asks for one.

    Where no thread can be started, a call waits until one can. `call_later` takes seconds and a
    function, from any thread.
    """

    def __init__(
        self,
        size: int,
        *,
        name: str,
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        super().__init__(1)
        self.size = size
        self.lost = 0  # threads whose call was given up and has not returned
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._call_later = call_later
        self._will_try_again = False  # to start a thread
        self._is_refused = False  # one, and the log says so

    def submit(  # type: ignore[override]  # the base names its parameters with two underscores
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]:
        """Call the function in one of the threads."""
        future: Future[R] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                try:
                    value = function(*args, **kwargs)
                finally:
                    if COPIES:
                        end_copy()
            except StopIteration as error:  # which no asyncio future can carry
                future.set_exception(RuntimeError(f"The function raised {error!r}."))
            except BaseException as error:  # noqa: BLE001  it is raised where the future is read
                future.set_exception(error)
            else:
                future.set_result(value)

        self._work.put(call)
        if not self._idle.acquire(blocking=False):
            self._start_one()
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

    def _start_one(self) -> None:
        with self._counting:
            if self._will_try_again or self._started >= self.size:
                return
            name = f"{self._name}-{self._started + 1}"
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except (RuntimeError, MemoryError) as error:
                if not self._is_refused:
                    text = "A thread cannot be started, so calls have to wait: %s (%s of %s run)"
                    logger.warning(text, error, self._started, self.size)
                self._will_try_again = self._is_refused = True
            else:
                self._started += 1
                self._is_refused = False
                return
        self._call_later(_RETRY, self._try_again)

    def _try_again(self) -> None:
        self._will_try_again = False
        for _ in range(self._work.qsize()):
            self._start_one()

    def _run(self) -> None:
        while True:
            try:
                call = self._work.get_nowait()
            except Empty:
                self._idle.release()
                call = self._work.get()
            if call is None:
                return
            call()
            del call  # or an idle thread would keep the last job's arguments alive
