"""One connection of its own that runs scripts, one at a time, each within a deadline."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from service.redis.script import Script


class ScriptConnection:
    """Connects when there is something to run, and again after a loss.

    Borrowing a connection of a pool for each call, and giving it back, costs more than the call.
    """

    def __init__(self, client: Redis, *, timeout: float) -> None:
        self._pool = client.connection_pool
        self._timeout = timeout
        self._connection: Any = None

    async def run(
        self,
        script: Script,
        keys: Sequence[Any],
        arguments: Sequence[Any],
        on_send: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Run the script, and give its answers; `on_send` is called right before it is sent.

        Raises RedisError, OSError, and TimeoutError when the timeout is over. The connection is
        dropped then, also after an answer: the address may lead to another server by now.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
                if on_send is not None:
                    on_send()
                try:
                    return await self._execute(script.by_sha(keys, arguments))
                except NoScriptError:
                    return await self._execute(script.whole(keys, arguments))
        except BaseException:
            await self.disconnect()  # an answer on its way would be taken for the next one's
            raise

    async def disconnect(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is lost either way
                await self._connection.disconnect(nowait=True)

    async def _execute(self, command: tuple[Any, ...]) -> list[Any]:
        await self._connection.send_command(*command, check_health=False)
        answer: list[Any] = await self._connection.read_response()
        return answer

    async def _connect(self) -> None:
        if self._connection is None:
            # One deadline for the whole exchange, in place of redis-py's timer for each half of it.
            options = {**self._pool.connection_kwargs, "socket_timeout": None}
            self._connection = self._pool.connection_class(**options)
        if self._connection.is_connected and await self._connection.can_read():
            await self._connection.disconnect()  # the server has closed it since the last call
        await self._connection.connect()
