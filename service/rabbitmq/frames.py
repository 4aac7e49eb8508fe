"""Reads and writes AMQP's frames on a socket, by the event loop."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import unpack_from
from typing import Any, Final

from amqp import spec
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps

from service.rabbitmq.packing import PackedMessage

PUBLISHES, ASKS = 1, 2  # the channels of a connection
_CHUNK: Final = 65_536  # bytes that are read at once
_HEADER: Final = 7  # bytes of a frame before its payload
_METHOD_ID: Final = 4  # bytes before the arguments of a method
_FRAME_END: Final = 0xCE
_NOT_READY: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class OpenedSocket:
    """The socket of a connection that was opened, with its channels; `heartbeat` is in seconds."""

    socket: Any
    frame_max: int
    heartbeat: float  # 0 for none

    @classmethod
    def open(cls, connection: Any) -> "OpenedSocket":
        """Open Kombu's connection, and take its socket. Blocks; raises any error of Kombu's."""
        nodes = len(connection.alt) or 1
        try:
            connection.ensure_connection(max_retries=nodes, interval_start=0, interval_max=0)
            opened: Any = connection.connection
            with opened.transport.having_timeout(connection.connect_timeout):
                opened.channel(PUBLISHES).confirm_select()
                opened.channel(ASKS)
        except BaseException:
            connection.collect()
            raise
        transport = opened.transport
        taken = cls(transport.sock, opened.frame_max, opened.heartbeat or 0)
        transport.sock, transport.connected = None, False  # or it would be closed with its object
        taken.socket.setblocking(False)
        if sys.platform == "linux":  # py-amqp's second is too short for a server that is busy
            patience = int(1000 * taken.heartbeat)  # milliseconds; 0 for the system's own
            taken.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        return taken


class FrameStream:
    """Gives each method that comes to `on_method`, and calls `on_lost` once, at the end.

    `on_method` is given the channel, the method, its packed arguments, and its message if it has
    one. py-amqp's code for frames, which counts them here, does the rest. To be used on one loop.
    """

    def __init__(
        self,
        opened: OpenedSocket,
        on_method: Callable[[int, Any, bytes, Any], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.lost = ""  # why the connection has ended
        self.frame_max = opened.frame_max
        self.bytes_sent = self.bytes_recv = 0  # frames, in fact
        self._loop = asyncio.get_running_loop()
        self._socket, self._heartbeat = opened.socket, opened.heartbeat
        self._on_lost = on_lost
        self._on_frame: Any = frame_handler(self, on_method)
        self._write_frame: Any = frame_writer(self, self)
        self._received, self._unsent = bytearray(), bytearray()
        self._is_flushing = False  # or will be, soon or when the socket takes more
        self._full_since = 0.0  # when the socket has taken no more; 0 once all is sent
        self._received_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Read from now on."""
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        self._on_readable()  # TLS may have read more from the socket than was asked for
        self._beat(self.bytes_sent)

    def send(
        self,
        channel: int,
        method: Any,
        form: str = "",
        arguments: tuple[Any, ...] = (),
        message: Any = None,
    ) -> None:
        """Send a method with these arguments, which py-amqp packs by `form`, and a message."""
        packed = dumps(form, arguments) if form else b""
        self._write_frame(1, channel, method, packed, message)

    def send_packed(self, channel: int, message: PackedMessage) -> None:
        """Send a message that is packed, with the method that publishes it."""
        if message.size > self.frame_max:  # its body needs several frames
            method, packed = spec.Basic.Publish, message.method[_METHOD_ID:]
            self._write_frame(1, channel, method, packed, message)
        else:
            self.write(message.frames(channel))
            self.bytes_sent += 1

    def write(self, data: memoryview | bytes) -> None:
        """Send it with all that is written in this turn of the loop. For py-amqp's code, too."""
        self._unsent += data
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what was written, as far as the socket takes it."""
        try:
            while self._unsent and not self.lost:
                del self._unsent[: self._socket.send(self._unsent)]
        except _NOT_READY:
            self._is_flushing = True
            self._full_since = self._full_since or self._loop.time()
            self._loop.add_writer(self._socket.fileno(), self.flush)
            return
        except OSError as error:
            self.lose(str(error))
        if self._full_since and not self.lost:
            self._loop.remove_writer(self._socket.fileno())
        self._is_flushing, self._full_since = False, 0.0

    @property
    def behind(self) -> float:
        """Seconds for which something that was written waits, as the socket takes no more."""
        return self._loop.time() - self._full_since if self._full_since else 0.0

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing at all was received for so long."""
        return self._loop.time() - self._received_at >= seconds

    def lose(self, reason: str) -> None:
        """Close the socket, if that is not done."""
        if self.lost:
            return
        self.lost = reason or "the connection has ended"
        if self._timer is not None:
            self._timer.cancel()
        number = self._socket.fileno()
        self._loop.remove_reader(number)
        self._loop.remove_writer(number)
        self._socket.close()
        self._on_lost()

    def _on_readable(self) -> None:
        end = ""
        try:
            while data := self._socket.recv(_CHUNK):
                self._received += data
                self._received_at = self._loop.time()
            end = "RabbitMQ has closed the connection"
        except _NOT_READY:
            pass
        except OSError as error:
            end = str(error) or type(error).__name__
        try:
            for frame in self._frames():
                self._on_frame(frame)
        except Exception as error:  # noqa: BLE001  what was received is no AMQP
            end = f"what was received cannot be read: {error!r}"
        if end:
            self.lose(end)

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        at, received = 0, self._received
        while len(received) - at > _HEADER and not self.lost:
            kind, channel, size = unpack_from(">BHI", received, at)
            begin, end = at + _HEADER, at + _HEADER + size
            if len(received) <= end:
                break
            if received[end] != _FRAME_END:
                raise ValueError("a frame has no end")
            at = end + 1
            yield kind, channel, bytes(received[begin:end])
        del received[:at]

    def _beat(self, sent_before: int) -> None:
        """Send a heartbeat if nothing else was sent; end a connection that is silent for long."""
        if not self._heartbeat or self.lost:
            return
        self._on_readable()  # what came while the loop was blocked
        if self.is_silent(2 * self._heartbeat):
            self.lose(f"RabbitMQ has sent nothing for {2 * self._heartbeat:g} s")
        if self.lost:
            return
        if self.bytes_sent == sent_before:
            self._write_frame(8, 0, None, None, None)
        self._timer = self._loop.call_later(self._heartbeat / 2, self._beat, self.bytes_sent)
