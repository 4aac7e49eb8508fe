"""Keeps a connection to RabbitMQ: makes a lost one anew in the background."""

import asyncio
import contextvars
import logging
import math
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from service.rabbitmq.connection import RabbitConnection
from service.rabbitmq.frames import OpenedSocket
from service.rabbitmq.publishing import ConnectionLostError

logger: Final = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1  # seconds between two attempts to connect; each is twice the one before
_LAST_PAUSE: Final = 1.0
_SLOW: Final = "it is slower than jobs are enqueued"
_ALARM: Final = "it is short of memory or disk, and takes no messages"


class RabbitClient:
    """One connection for all of a process, made when it is first needed. To be used on one loop."""

    def __init__(self, open_socket: Callable[[int], OpenedSocket]) -> None:
        """`open_socket` blocks, and is called in a thread; it raises any error.

        It is told how many connections were given up: the next node is to be the first that is
        tried, as the last one may be cut off from the others, and never confirm a message.
        """
        self._open_socket = open_socket
        self._given_up = 0
        self._connection: RabbitConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # set at the end of each attempt to connect
        self._outage = ""  # why the last attempt has failed

    def begin(self) -> None:
        """Connect in the background, unless that is under way or done."""
        if self._connection is None and not self._is_connecting:
            # In a context of its own, or it would belong to the request that happened to start it.
            self._connecting = asyncio.get_running_loop().create_task(
                self._connect(), context=contextvars.Context()
            )

    def check(self, *, patience: float = math.inf) -> None:
        """Raise ConnectionLostError, and at once, while it is known that there is an outage.

        Also while RabbitMQ has not taken all that is sent to it for `patience` seconds.
        """
        if self._connection is not None:
            if self._connection.blocked:
                raise ConnectionLostError(_ALARM)
            if self._connection.behind > patience:
                raise ConnectionLostError(_SLOW)
        elif self._outage and self._is_connecting:
            raise ConnectionLostError(self._outage)

    @property
    def ready(self) -> RabbitConnection | None:
        """The connection, if there is one that takes messages now."""
        connection = self._connection
        return None if connection is None or connection.blocked else connection

    def renew_channel(self) -> None:
        """Publish on a new channel from now on, where the last one has nacked a message."""
        if self._connection is not None:
            self._connection.renew_channel()

    async def connection(self) -> RabbitConnection:
        """The connection, as soon as there is one. Raises ConnectionLostError as `check` does."""
        while True:
            self.check()
            if self._connection is not None:
                return self._connection
            self.begin()
            await self._changed.wait()

    def note_timeout(self, seconds: float) -> None:
        """Note that somebody has waited so long in vain: for a connection, or for an answer.

        A connection on which nothing came meanwhile is dropped; else its channel is renewed.
        """
        reason = f"no answer within {seconds:g} s"
        if self._connection is not None:
            if not self._connection.is_silent(seconds):
                self._connection.renew_stuck_channel(seconds)
                return
            self._given_up += 1
            self._connection.close(reason)
        if self._is_connecting:
            self._outage = self._outage or reason

    async def aclose(self) -> None:
        """End the connection, without waiting for RabbitMQ.

        The next one may be on another loop.
        """
        self._changed, self._outage = asyncio.Event(), ""
        connecting, connection = self._connecting, self._connection
        self._connecting = self._connection = None
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
        if connection is not None:
            connection.close("the process ends")

    @property
    def _is_connecting(self) -> bool:
        # A task that somebody has cancelled, with all those of the loop, is done.
        return self._connecting is not None and not self._connecting.done()

    async def _connect(self) -> None:
        try:
            await self._connect_at_last()
        finally:
            self._tell()

    async def _connect_at_last(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                opening = _in_thread(partial(self._open_socket, self._given_up))
                connection = RabbitConnection(await opening, self._on_lost)
                problem = connection.lost
            except Exception as error:  # noqa: BLE001  whatever Kombu, TLS and the system raise
                problem = str(error) or type(error).__name__
            if not problem:
                break
            if not self._outage:
                logger.warning("RabbitMQ is not available: %s", problem)
            self._outage = problem
            self._tell()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  no secret
            pause = min(2 * pause, _LAST_PAUSE)
        if self._outage:
            logger.warning("RabbitMQ is available again.")
        self._connection, self._outage, self._connecting = connection, "", None

    def _tell(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _on_lost(self) -> None:
        if self._connection is not None:  # else it is closed by us
            logger.warning("The connection to RabbitMQ is lost: %s", self._connection.lost)
            self._connection = None
            self.begin()


async def _in_thread(open_socket: Callable[[], OpenedSocket]) -> OpenedSocket:
    """Call it in a thread of its own, so that none waits for a free one, nor at the exit for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[OpenedSocket] = loop.create_future()

    def finish(opened: OpenedSocket | None, error: Exception | None) -> None:
        if error is not None and not done.done():
            done.set_exception(error)
        elif opened is not None and done.cancelled():
            opened.socket.close()
        elif opened is not None:
            done.set_result(opened)

    def run() -> None:
        opened, failure = None, None
        try:
            opened = open_socket()
        except Exception as error:  # noqa: BLE001  for the caller
            failure = error
        try:
            loop.call_soon_threadsafe(finish, opened, failure)
        except RuntimeError:  # the loop is closed
            if opened is not None:
                opened.socket.close()

    threading.Thread(target=run, name="rabbitmq-connect", daemon=True).start()
    return await done
