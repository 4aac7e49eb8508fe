"""Holds the lines of each attempt until they are written: bounded, without any I/O."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from service.results.job_log import MAX_BYTES, MAX_TEXT, PRINT, LogLine, make_line

# The attempts that have logged something and have not ended, by the job's id and their start. Each
# job asks at its end whether it is empty.
OPEN: Final[dict[tuple[str, str], "AttemptLog"]] = {}

_MAX_OPEN: Final = 10_000  # attempts, of which some may log after their end
_MAX_WAITING: Final = 16_777_216  # bytes of all lines that wait to be written
_OVERHEAD: Final = 64  # bytes of a line besides its text
_AT_ONCE: Final = 1_048_576  # bytes to be written in one go
_LOGS_AT_ONCE: Final = 250  # each keeps Redis from others for some 15 µs


@dataclass(slots=True, eq=False)
class AttemptLog:
    """What one attempt has logged and is still to be written."""

    id: tuple[str, str]
    lines: deque[LogLine] = field(default_factory=deque)
    size: int = 0  # bytes of the lines
    lost: int = 0  # lines that there was no room for
    rests: dict[str, str] = field(default_factory=dict)  # printed without a line break, by stream
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """Lines of an attempt, to be written now; `is_over` where the attempt has ended."""

    log: AttemptLog
    lines: list[LogLine]
    is_over: bool


class Buffer:
    """Takes lines from any thread, and from signal handlers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: dict[AttemptLog, None] = {}  # in the order in which they began to wait
        self._size = 0

    def add(self, attempt: tuple[str, str], line: LogLine) -> None:
        """Have a line of an attempt written."""
        with self._lock:
            self._add(self._log_of(attempt), line)

    def print(self, attempt: tuple[str, str], stream: str, text: str) -> None:
        """Have what an attempt prints written, line by line."""
        with self._lock:
            log = self._log_of(attempt)
            *lines, rest = (log.rests.pop(stream, "") + text).split("\n")
            now = time.time()
            for line in lines:
                self._add(log, make_line(now, PRINT, stream, _last_shown(line)))
            if rest:
                log.rests[stream] = rest if len(rest) <= MAX_TEXT else _last_shown(rest)[-MAX_TEXT:]

    def end(self, attempt: tuple[str, str]) -> None:
        """Note that an attempt has ended, if it has logged anything."""
        with self._lock:
            if (log := OPEN.get(attempt)) is None:
                return
            for stream, rest in log.rests.items():
                self._add(log, make_line(time.time(), PRINT, stream, _last_shown(rest)))
            log.rests.clear()
            log.is_over = True
            self._waiting[log] = None

    def take(self) -> list[Waiting]:
        """The lines to write next, which wait no more; none where nothing waits."""
        taken: list[Waiting] = []
        size = 0
        with self._lock:
            while self._waiting and size < _AT_ONCE and len(taken) < _LOGS_AT_ONCE:
                log = next(iter(self._waiting))
                del self._waiting[log]
                lines = [*log.lines]
                if log.lost:
                    text = f"{log.lost:,} lines were not kept: there were too many at once."
                    lines.insert(0, make_line(time.time(), logging.WARNING, "service", text))
                size += log.size
                taken.append(Waiting(log, lines, log.is_over))
                self._size -= log.size
                log.lines.clear()
                log.size = log.lost = 0
                if log.is_over and OPEN.get(log.id) is log:
                    del OPEN[log.id]  # what it logs from now on is in a log of its own
        return taken

    def put_back(self, taken: Iterable[Waiting]) -> None:
        """Have lines wait that could not be written."""
        with self._lock:
            for each in taken:
                log = OPEN.setdefault(each.log.id, each.log)
                log.is_over = log.is_over or each.is_over
                log.lines.extendleft(reversed(each.lines))
                size = sum(map(_size_of, each.lines))
                log.size += size
                self._size += size
                self._waiting[log] = None
                self._make_room(log)

    def lose(self, taken: Iterable[Waiting]) -> None:
        """Count lines as lost that can never be written."""
        with self._lock:
            for each in taken:
                each.log.lost += len(each.lines)

    def _log_of(self, attempt: tuple[str, str]) -> AttemptLog:
        if (log := OPEN.get(attempt)) is None:
            if len(OPEN) >= _MAX_OPEN:  # the oldest of those that have nothing to be written
                idle = next((key for key, each in OPEN.items() if each not in self._waiting), None)
                if idle is not None:
                    del OPEN[idle]
            log = OPEN[attempt] = AttemptLog(attempt)
        return log

    def _add(self, log: AttemptLog, line: LogLine) -> None:
        size = _size_of(line)
        self._waiting[log] = None
        if self._size + size > _MAX_WAITING:
            log.lost += 1
            return
        log.lines.append(line)
        log.size += size
        self._size += size
        self._make_room(log)

    def _make_room(self, log: AttemptLog) -> None:
        """Drop the oldest lines beyond what Redis would keep of them."""
        while log.size > MAX_BYTES:
            size = _size_of(log.lines.popleft())
            log.size -= size
            self._size -= size
            log.lost += 1


def _size_of(line: LogLine) -> int:
    return len(line.text) + len(line.source) + _OVERHEAD


def _last_shown(line: str) -> str:
    r"""What a terminal shows of a line at last: `\r` begins it anew, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2]
