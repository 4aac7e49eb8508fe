"""Stands between a client and a server of this machine, and cuts what goes through it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_HEARTBEAT: Final = 8  # bytes, of AMQP


class Relay:
    """Hands on what comes to its own `port`; to be used on one loop."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.taken = 0  # connections, in all
        self.cuts_next_message = False  # by `cut`, before the server has any of it
        self.cuts_next_answer = False  # by `cut`, once the server has done what it was asked for
        self.next_answer = b""  # what is given in place of the next one, which is dropped
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections, as a server or a firewall does with idle ones."""
        for writer in self._writers:
            writer.transport.abort()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on a connection."""
        self.taken += 1
        away_reader, away_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        both = {writer, away_writer}
        self._writers |= both
        with contextlib.suppress(OSError):
            sending = self._hand_on(reader, away_writer)
            await asyncio.gather(sending, self._hand_back(away_reader, writer))
        self._writers -= both

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.cuts_next_message and len(data) > _HEARTBEAT:
                self.cuts_next_message = False
                self.cut()
            else:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _hand_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.cuts_next_answer:
                self.cuts_next_answer = False
                self.cut()
            else:
                given, self.next_answer = self.next_answer or data, b""
                writer.write(given)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relaying(server_port: int) -> AsyncIterator[Relay]:
    """A relay on a free port."""
    relay = Relay(server_port)
    server = await asyncio.start_server(relay.take, "127.0.0.1")
    relay.port = server.sockets[0].getsockname()[1]
    async with server:
        yield relay
        relay.cut()
