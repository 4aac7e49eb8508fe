"""Calls from the event loop into the worker's main thread, where Celery expects its callbacks."""

import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from celery.concurrency import prefork

# Celery's prefork pool does the same with it while it stops.
_run_ready_acks: Final[Callable[[Any], None]] = prefork._run_ready_callbacks  # type: ignore[attr-defined]  # noqa: SLF001

logger: Final = logging.getLogger(__name__)


class MainThread:
    """Makes calls in the main thread, in the order in which it is given them."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._hub: Any = None
        self._waking = False
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._waiting = False
        self._wake: SimpleQueue[None] = SimpleQueue()

    def attach(self, hub: Any) -> None:
        """Have Celery's hub make the calls; after each reconnection anew.

        A socket wakes the hub, not its `call_soon`: a call made by `call_soon` that uses it again,
        as acknowledging does, would wait until the hub next wakes.
        """
        self._hub = hub
        hub.add_reader(self._receiver, self.make_calls)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have a call made. From any thread."""
        self._calls.append((function, args))
        if self._hub is None and not self._waiting:
            self.make_calls()  # Celery's loop without a hub has no way to be woken
        else:
            self.wake()

    def wake(self) -> None:
        """Have the main thread look whether there is something to do. From any thread."""
        if self._waiting:
            self._wake.put(None)
        elif self._hub is not None and not self._waking:
            self._waking = True
            self._sender.send(b"\0")

    def make_calls_until(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Stand in for the hub, which does not turn any more while a pool stops.

        `is_over` is asked after each call, and whenever the main thread is woken.
        """
        ends_at = time.monotonic() + seconds
        self._waiting = True
        while True:
            self.make_calls()
            if self._hub is not None:
                _run_ready_acks(self._hub)
            left = ends_at - time.monotonic()
            if left <= 0 or (is_over() and not self._calls):
                return
            with suppress(Empty):
                self._wake.get(timeout=left)

    def make_calls(self) -> None:
        """Make the calls that were given so far. In the main thread only."""
        with suppress(BlockingIOError):
            self._receiver.recv(4096)
        self._waking = False
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("A call in the main thread failed")

    def close(self) -> None:
        """Detach from the hub."""
        if self._hub is not None:
            self._hub.remove(self._receiver)
        self._receiver.close()
        self._sender.close()
