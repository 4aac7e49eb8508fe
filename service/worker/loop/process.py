"""What a process that runs jobs keeps for its app: the event loop, and what uses it."""

import asyncio
import os
import threading
from functools import cached_property
from typing import Any, Final

from quart import Quart
from redis.asyncio import Redis

from service.parts import parts_of
from service.redis.clients import connect
from service.worker.loop.process_loop import ProcessLoop
from service.worker.loop.stop_limit import StopLimit
from service.worker.results.reader import RecordReader
from service.worker.results.writer import ResultsWriter

_EXTENSION: Final = "service.worker"
_making: Final = threading.Lock()
# One for each fork on the way to this process: quicker to ask for than the process's id.
_FORKS: Final[list[None]] = []
os.register_at_fork(after_in_child=lambda: _FORKS.append(None))


class WorkerProcess:
    """Made anew after a fork, which a loop's thread does not survive."""

    def __init__(self, app: Quart) -> None:
        self.forks = len(_FORKS)
        self.prefork_pool: Any = None  # set in the parent of its children
        self.stop_limit = StopLimit()
        self._parts = parts_of(app)
        self._settings = self._parts.settings
        self._loop: ProcessLoop | None = None
        self._shared_redis: Redis | None = None

    @property
    def loop(self) -> ProcessLoop:
        """The loop for the app's coroutines; made when it is first needed."""
        with _making:
            if self._loop is None:
                self._loop = ProcessLoop(self._settings.sync_threads)
            return self._loop

    def use_running_loop(self) -> ProcessLoop:
        """Have the caller's own event loop be the one for the app's coroutines, as in a test."""
        self._loop = ProcessLoop(self._settings.sync_threads, asyncio.get_running_loop())
        self._shared_redis = self._parts.redis  # which is used on the same loop
        return self._loop

    @property
    def is_on_loop(self) -> bool:
        """Whether the caller runs on the loop. Makes none: prefork's parent must not have one."""
        return self._loop is not None and self._loop.is_here

    def _client(self) -> Redis:
        return self._shared_redis or connect(self._settings)

    @cached_property
    def writer(self) -> ResultsWriter:
        """Writes records. To be asked for on the loop."""
        writer = ResultsWriter(self._client(), self.loop.loop)
        self.loop.closers.append(writer.close)
        return writer

    @cached_property
    def reader(self) -> RecordReader:
        """Reads records. To be asked for on the loop."""
        settings = self._settings
        reader = RecordReader(self._client(), timeout=settings.redis_timeout)
        self.loop.closers.append(reader.close)
        return reader


def process_of(app: Quart) -> WorkerProcess:
    """The WorkerProcess of the app in this process; made when it is first needed."""
    process: WorkerProcess | None = app.extensions.get(_EXTENSION)
    if process is None or process.forks != len(_FORKS):
        with _making:
            process = app.extensions.get(_EXTENSION)
            if process is None or process.forks != len(_FORKS):
                process = app.extensions[_EXTENSION] = WorkerProcess(app)
    return process
