"""Merges the logs of several processes into one, each line under its process's name."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_PIECE: Final = 65_536  # bytes; a longer line is shown in pieces
_COLOURS: Final = (36, 33, 32, 35)  # cyan, yellow, green, magenta


def prefix(name: str, *, width: int, colour: int | None) -> bytes:
    """The text before each line: `worker | `, of one width for every name."""
    text = f"{name:<{width}} | "
    return (text if colour is None else f"\x1b[{colour}m{text}\x1b[0m").encode()


def under_prefix(before: bytes, line: bytes) -> bytes:
    """One line of a log as it is shown; a last line without an end gets one."""
    return before + line.removesuffix(b"\n").removesuffix(b"\r") + b"\n"


class Output:
    """Writes to a file descriptor from threads, one for each process.

    A reader of our output that stalls (a paused pager, a full pipe) stalls the threads, and then
    the processes that log, but never the supervisor, which can still stop everything.
    `on_failure` is called from a thread, once, when the output has no reader any more.
    """

    def __init__(
        self, descriptor: int, *, width: int, colour: bool, on_failure: Callable[[OSError], None]
    ) -> None:
        self._descriptor = descriptor
        self._width = width
        self._colours = _COLOURS if colour else (None,)
        self._on_failure = on_failure
        self._failed = False
        self._lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._own = self._pump(b"")

    def pipe(self, name: str | None = None) -> int:
        """A descriptor for the process `name` to log to; close it once the process has it.

        Without a name the lines are shown as they are.
        """
        if name is None:
            return self._pump(b"")
        place = self._places.setdefault(name, len(self._places))  # a process started anew keeps it
        colour = self._colours[place % len(self._colours)]
        return self._pump(prefix(name, width=self._width, colour=colour))

    def say(self, text: str) -> None:
        """Write a line of our own."""
        os.write(self._own, text.encode() + b"\n")

    def close(self, *, within: float) -> None:
        """Write what was logged until now, for at most `within` seconds; then give up on it."""
        os.close(self._own)
        for thread in self._threads:
            thread.join(within / len(self._threads))

    def _pump(self, before: bytes) -> int:
        source, sink = os.pipe()
        thread = threading.Thread(target=self._copy, args=(source, before), daemon=True)
        thread.start()
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        return sink

    def _copy(self, source: int, before: bytes) -> None:
        with os.fdopen(source, "rb") as log:
            while line := log.readline(_PIECE):
                if not self._failed:
                    self._write(under_prefix(before, line))

    def _write(self, data: bytes) -> None:
        # Not through sys.stdout: at exit Python waits for the lock of a thread that stalls in it.
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                self._failed = True
                with suppress(RuntimeError):  # the event loop has ended
                    self._on_failure(error)
