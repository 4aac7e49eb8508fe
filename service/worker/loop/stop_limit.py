"""Ends a worker that was told to stop and takes too long, whatever its main thread waits for."""

import faulthandler
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

logger: Final = logging.getLogger(__name__)

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})
# Seconds for what is to be done beyond the time that something takes at most, and for all farewells
# to servers: one that is hung would be waited for again and again.
STOP_MARGIN: Final = 5.0
_LAST_ACTS: Final = 1.0  # seconds for what is still to be done when the time is over
_REARM: Final = 1.0  # seconds after which a body's own use of faulthandler is undone
_STDERR: Final = 2  # whatever `sys.stderr` is by now


class StopLimit:
    """Hears the signals to stop in a thread of its own, and ends the process when time is over.

    Python's C code writes each signal to a socket. So a signal is heard while the main thread waits
    for a server, and nothing of ours runs in a signal handler, where it could wait for a lock that
    the main thread holds beneath it.

    No thread runs while a job holds Python's interpreter lock in C code. So from the first signal
    on faulthandler, whose timer needs no lock, ends the process a little later, with 1, and says
    where each thread is. A signal that comes while a job holds the lock is heard when the job
    releases it.
    """

    def __init__(self) -> None:
        self.signals = 0  # to stop, so far
        self.told_at: float | None = None  # when the first of them came, by the monotonic clock
        self.last_acts: list[Callable[[], object]] = []  # before the process is ended by force
        # Called in the thread for each signal to stop.
        self.on_signal: Callable[[], object] = bool
        self._worker: Any = None
        self._ends_at: float | None = None
        self._receiver: socket.socket  # from `start` on
        self._sender: socket.socket | None = None

    def start(self, worker: Any) -> None:
        """Begin to listen, in the main thread; a worker in another thread is sent no signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._worker = worker
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="stop-limit", daemon=True).start()

    def allow(self, seconds: float) -> None:
        """Have the process end in so many seconds, unless its worker has stopped by then."""
        self._ends_at = time.monotonic() + seconds
        if self._sender is not None:
            with suppress(BlockingIOError):  # the thread has enough to read
                self._sender.send(b"\0")

    def _listen(self) -> None:
        while True:
            wait = None
            if self._ends_at is not None:
                if self._worker.blueprint.shutdown_complete.is_set():
                    faulthandler.cancel_dump_traceback_later()
                    return  # a program may go on after its worker
                left = self._ends_at - time.monotonic()
                if left <= 0:
                    self._end()
                faulthandler.dump_traceback_later(left + 2 * _LAST_ACTS, exit=True, file=_STDERR)
                wait = min(left, _REARM)
            self._receiver.settimeout(wait)
            try:
                heard = sum(number in _SIGNALS for number in self._receiver.recv(64))
            except TimeoutError:
                continue
            for _ in range(heard):
                self.signals += 1
                self.told_at = self.told_at or time.monotonic()
                self.on_signal()

    def _end(self) -> None:
        """End the process. The log, like all else, may be locked by a thread that hangs."""
        acts = threading.Thread(target=self._act, daemon=True)
        acts.start()
        acts.join(_LAST_ACTS)
        os._exit(self._worker.exitcode or 0)

    def _act(self) -> None:
        logger.critical("The worker has not stopped in time; it is ended.")
        for act in self.last_acts:
            act()


# A child would write the signals that it is sent to the socket of its parent.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
