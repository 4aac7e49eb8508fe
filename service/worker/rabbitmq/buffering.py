"""Reads and writes a consumer's connection in large pieces: many frames by one call of the system.

py-amqp makes some fifteen such calls for each delivery, and one for each acknowledgement. At each
of them another thread, as that of the event loop, may take Python's lock, and keeps it for a while.
"""

import threading
from collections.abc import Callable
from struct import unpack_from
from typing import Any, Final

from celery.bootsteps import RUN  # type: ignore[attr-defined]  # celery-types has no states
from celery.concurrency import solo
from celery.worker import consumer

_CHUNK: Final = 8_192  # bytes that are read at once; py-amqp copies the rest of them for each frame
_AT_ONCE: Final = 8  # chunks that are handled before the hub looks at its other events
_AROUND: Final = 8  # bytes of a frame beside its content


class BufferingConsumer(consumer.Consumer):
    """Celery's, whose connection is read and written in large pieces."""

    hub: Any
    blueprint: Any

    def connect(self) -> Any:
        """Celery's own; a pool that runs jobs in this thread needs the hub between any two."""
        connection = super().connect()
        if self.hub and not isinstance(self.pool, solo.TaskPool):
            BufferedTransport(connection.connection, self.hub, self._has_loop)
        return connection

    def _has_loop(self) -> bool:
        return bool(self.blueprint.state == RUN)


class BufferedTransport:
    """Stands between py-amqp's transport of a connection and its socket, for Celery's hub.

    What is written is sent before the hub waits, and before anything is read. A call that waits for
    its answer may read more than that, of which the socket says nothing: it is handled before the
    hub waits, too.
    """

    def __init__(self, connection: Any, hub: Any, is_turning: Callable[[], bool]) -> None:
        """`connection` is py-amqp's, and is open; `is_turning` says whether the hub waits again."""
        self._connection, self._transport, self._hub = connection, connection.transport, hub
        self._is_turning = is_turning
        self._recv, self._sendall = self._transport._quick_recv, self._transport._write  # noqa: SLF001  pinned
        self._unsent, self._lock = bytearray(), threading.Lock()  # pools may write in threads
        self._transport._quick_recv = self._read  # noqa: SLF001  as above
        self._transport._write = self._write  # noqa: SLF001  as above
        hub.on_tick.add(self._on_tick)
        hub.add_reader(connection.sock, self._on_readable)

    def flush(self) -> None:
        """Send what was written. Raises OSError."""
        with self._lock:
            if not self._unsent or not self._connection.connected:
                return
            unsent, self._unsent = self._unsent, bytearray()
            sock = self._transport.sock
            timeout = sock.gettimeout()
            sock.settimeout(None)  # as py-amqp writes; a wait for an answer may have set another
            try:
                self._sendall(unsent)
            except OSError:
                self._transport.connected = False
                raise
            finally:
                sock.settimeout(timeout)

    def _read(self, size: int) -> bytes:
        self.flush()
        data: bytes = self._recv(max(size, _CHUNK))
        return data

    def _write(self, data: Any) -> None:
        with self._lock:
            is_first = not self._unsent
            self._unsent += data
        if not self._is_turning():
            self.flush()
        elif is_first:
            self._hub.call_soon(self.flush)  # which wakes it, where this is another thread

    def _on_tick(self) -> None:
        if not self._connection.connected:
            self._hub.on_tick.discard(self._on_tick)  # another connection has taken its place
            return
        while self._has_frame() or self._has_more():
            self._on_readable()
        self.flush()

    def _on_readable(self) -> None:
        self._handle()
        for _ in range(_AT_ONCE):
            if not self._fill():
                return
            self._handle()

    def _handle(self) -> None:
        while self._has_frame():
            self._connection.on_inbound_frame(self._transport.read_frame())

    def _has_frame(self) -> bool:
        buffer = self._transport._read_buffer  # noqa: SLF001  as above
        if len(buffer) < _AROUND:
            return False
        size: int = unpack_from(">I", buffer, 3)[0]
        return len(buffer) >= size + _AROUND

    def _has_more(self) -> bool:
        """Whether TLS has read more than it was asked for."""
        pending = getattr(self._transport.sock, "pending", None)
        return bool(pending is not None and pending())

    def _fill(self) -> bool:
        """Read what there is; whether there was something. Raises OSError."""
        try:
            with self._transport.having_timeout(0):
                data = self._recv(_CHUNK)
        except TimeoutError:
            return False
        if not data:
            self._transport.connected = False
            raise ConnectionResetError("RabbitMQ has closed the connection")
        self._transport._read_buffer += data  # noqa: SLF001  as above
        return True
