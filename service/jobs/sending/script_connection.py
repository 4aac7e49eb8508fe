"""One connection to Redis that runs enqueue.lua, one call at a time."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from service.errors import BrokerUnavailableError

_SCRIPT: Final = (files("service.jobs.sending") / "enqueue.lua").read_text()
_SHA: Final = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # noqa: S324  Redis names scripts by it
# With these Redis refuses the script, or within it the first command that would write; once the
# script has written, they are not looked for.
_REFUSALS: Final = frozenset(
    {"BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOREPLICAS", "OOM", "READONLY"}
)


class Lane:
    """Connects when there is something to write, and again after a loss."""

    def __init__(self, client: Redis, *, timeout: float, lifetime: int) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._timeout = timeout
        self._lifetime = lifetime

    async def call(self, arguments: Sequence[Any], on_send: Callable[[], None]) -> list[Any]:
        """Run the script on jobs, and give its answers; `on_send` is called before it is sent.

        Raises BrokerUnavailableError, which knows whether the jobs may have been accepted.
        """
        sent = False
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
                on_send()
                sent = True
                return await self._run(arguments)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            # Also after an answer: the address may lead to another server than this one by now.
            await self.disconnect()
            reason = str(error) or f"no answer within {self._timeout:g} s"
            maybe_accepted = sent and not _is_refusal(error)
            raise BrokerUnavailableError(reason, maybe_accepted=maybe_accepted) from error
        except BaseException:
            await self.disconnect()  # an answer on its way would be taken for the next one's
            raise

    async def disconnect(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is lost either way
                await self._connection.disconnect(nowait=True)

    async def _run(self, arguments: Sequence[Any]) -> list[Any]:
        try:
            return await self._command("EVALSHA", _SHA, 0, self._lifetime, *arguments)
        except NoScriptError:  # a Redis that was started anew
            return await self._command("EVAL", _SCRIPT, 0, self._lifetime, *arguments)

    async def _command(self, *command: Any) -> list[Any]:
        await self._connection.send_command(*command, check_health=False)
        answer: list[Any] = await self._connection.read_response()
        return answer

    async def _connect(self) -> None:
        if self._connection is None:
            self._connection = self._pool.connection_class(**self._pool.connection_kwargs)
        if self._connection.is_connected and await self._connection.can_read():
            await self._connection.disconnect()  # the server has closed it since the last call
        await self._connection.connect()


def _is_refusal(error: Exception) -> bool:
    code = getattr(error, "status_code", None)  # which redis-py cuts off where it knows it
    return (code or str(error).partition(" ")[0]) in _REFUSALS
