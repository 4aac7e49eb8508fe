"""Writes what jobs have logged to Redis, from a thread of its own."""

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from service.redis.clients import connect_blocking
from service.redis.keys import result_keys
from service.redis.script import Script
from service.redis.transient import answer_of, will_pass
from service.results.job_log import MAX_BYTES, LogLine, encode_lines
from service.settings import Settings
from service.worker.job_log.buffer import OPEN, Buffer, Waiting

logger: Final = logging.getLogger(__name__)

_APPEND: Final = Script.load("service.worker.job_log", "append")
_INTERVAL: Final = 0.2  # seconds for which lines are gathered
_PAUSE: Final = 1.0  # seconds before Redis is asked again that did not answer
_CHUNK: Final = 16_384  # bytes of a chunk, unless its last line is a long one
_WEEK: Final = 604_800  # seconds that the log of an attempt lives which does not end


class JobLogs:
    """The logs of the jobs of this process: any thread adds lines, and one thread writes them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = result_keys(settings)
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        """Begin with nothing: as new, or as a forked child, which has no thread and no lines."""
        OPEN.clear()
        self.buffer = Buffer()
        self._client: Redis | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self.is_failing = False  # Redis is away, or refuses

    def wake(self) -> None:
        """Have what is in the buffer written soon. From any thread, after each line."""
        if self._wake.is_set():
            return
        self._wake.set()
        if self._thread is None and self._starting.acquire(blocking=False):
            thread = threading.Thread(target=self._run, name="job-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process has no more threads, or ends
                self._starting.release()
            else:
                self._thread = thread

    def close(self) -> None:
        """Write what is left, unless Redis is known to be away, and end the thread."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2 * self._settings.redis_timeout)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closed.wait(_PAUSE if self.is_failing else _INTERVAL)
            is_last = self._closed.is_set()
            self._wake.clear()
            try:
                is_written = self._write()
            except Exception:
                # No job depends on it, whatever it is, and the next lines may be written.
                logger.exception("The logs of jobs could not be written")
                is_written = True
            if is_last:
                break
            if not is_written:
                self._wake.set()
        if self._client is not None:
            self._client.close()

    def _write(self) -> bool:
        """Write all that waits; False where Redis is away."""
        while waiting := self.buffer.take():
            try:
                self._append(waiting)
            except (RedisError, OSError) as error:
                is_refused = isinstance(error, ResponseError) and not will_pass(answer_of(error))
                if is_refused:
                    self.buffer.lose(waiting)
                else:
                    self.buffer.put_back(waiting)
                if not self.is_failing:
                    logger.warning("The logs of jobs are not kept for now: %s", error)
                self.is_failing = True
                if not is_refused:
                    return False
            else:
                self.is_failing = False
        return True

    def _append(self, waiting: Sequence[Waiting]) -> None:
        if self._client is None:
            self._client = connect_blocking(self._settings)
        keys = [self._keys.job_logs, self._keys.job_logs_bytes]
        arguments: list[Any] = [MAX_BYTES, self._settings.max_job_logs]
        for each in waiting:
            chunks = [*_chunked(each.lines)]
            keys.append(self._keys.job_log(*each.log.id))
            ttl = self._keys.ttl if each.is_over else max(self._keys.ttl, _WEEK)
            arguments += (ttl, len(chunks), *chunks)
        _APPEND.run_blocking(self._client, keys, arguments)


def _chunked(lines: Sequence[LogLine]) -> Iterator[bytes]:
    first = size = 0
    for number, line in enumerate(lines, 1):
        size += len(line.text)
        if size >= _CHUNK:
            yield encode_lines(lines[first:number])
            first, size = number, 0
    if first < len(lines):
        yield encode_lines(lines[first:])
