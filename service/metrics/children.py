"""Tells prefork's parent what the jobs of its children did: the children write, the parent counts.

The parent alone is scraped. A child that ends takes no count with it.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from service.signals import JobEvent

_LONGEST: Final = 4096  # bytes (PIPE_BUF) that a pipe takes from several writers unmixed
_READ: Final = 65_536  # bytes
_UNSENT: Final = 10_000  # events that a child keeps while the parent is busy; the oldest go


class ChildPipe:
    """One pipe for all children of a worker, opened before they are forked."""

    def __init__(self) -> None:
        self.pid = os.getpid()  # of the parent
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # a job never waits for the parent
        self._unsent: deque[bytes] = deque(maxlen=_UNSENT)

    def send(self, event: JobEvent) -> None:
        """Tell the parent of a change, in a child: a receiver of `job_changed`."""
        line = msgspec.json.encode(replace(event, id="", error="", place="")) + b"\n"
        if len(line) > _LONGEST:
            return
        self._unsent.append(line)
        with suppress(IndexError):  # another thread has sent the rest
            while True:
                line = self._unsent.popleft()
                try:
                    os.write(self._write, line)
                except BlockingIOError:  # full: the next event takes this one along
                    self._unsent.appendleft(line)
                    return

    def listen(self, record: Callable[[JobEvent], object]) -> None:
        """Have each event of a child recorded, in the parent, from now on."""
        threading.Thread(
            target=self._listen, args=(record,), name="metrics-children", daemon=True
        ).start()

    def _listen(self, record: Callable[[JobEvent], object]) -> None:
        decode = msgspec.json.Decoder(JobEvent).decode
        rest = b""
        while read := os.read(self._read, _READ):
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                record(decode(line))
