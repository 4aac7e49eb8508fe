"""Loads a Lua file, and runs it: by its digest, and whole where Redis does not know it yet."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from service.redis.deadline import Deadline
from service.signals import Incident, note_incident

logger: Final = logging.getLogger(__name__)

_WAIT_SHARE: Final = 0.8  # of the timeout, so that Redis can still say how many replicas it were


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the digest under which Redis keeps it."""

    text: str
    sha: str

    @classmethod
    def load(cls, folder: str, *names: str) -> "Script":
        """Read `<name>.lua` of a package; before the last name come those that it leans on."""
        root = files(folder)
        text = "\n".join(root.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
        return cls(text, sha1(text.encode()).hexdigest())  # noqa: S324  Redis's own choice

    def by_sha(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that is short, and that Redis may answer with NOSCRIPT."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def whole(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that works on any server, and has it keep the script."""
        return ("EVAL", self.text, len(keys), *keys, *arguments)

    def run_blocking(self, client: Redis, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run on a blocking client. Raises RedisError."""
        execute: Any = client.execute_command
        try:
            return execute(*self.by_sha(keys, arguments))
        except NoScriptError:
            return execute(*self.whole(keys, arguments))

    async def run(self, client: AsyncRedis, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run on an asyncio client. Raises RedisError."""
        execute: Any = client.execute_command
        try:
            return await execute(*self.by_sha(keys, arguments))
        except NoScriptError:
            return await execute(*self.whole(keys, arguments))


COMPARE_AND_SET: Final = Script.load("service.redis", "compare_and_set")


async def compare_and_set(  # noqa: PLR0913  the last two by name
    client: AsyncRedis,
    key: str,
    before: bytes | str,
    after: bytes | str,
    *,
    ttl: int | None = None,
    publish: bool = False,
) -> bool:
    """Store `after` if `before` is stored; whether it was. Empty text stands for no record.

    This is the one way to change a record that others may change. `ttl` is in seconds; None keeps
    the one that the record has. `publish` tells those who follow the record. Raises RedisError.
    """
    arguments = (before, after, "" if ttl is None else ttl, "1" if publish else "")
    return bool(await COMPARE_AND_SET.run(client, [key], arguments))


class TooFewReplicasError(RedisError):
    """Not as many replicas have what was written as were asked for, in the time that there was."""


class ScriptConnection:
    """One connection that runs scripts and commands, one at a time, each within a deadline.

    With `replicas` a script has run only once so many replicas have all that Redis had written by
    then, on whichever connection.

    It connects when there is something to run, and again after a loss. Borrowing a connection of a
    pool for each call, and giving it back, costs more than the call.
    """

    def __init__(self, client: AsyncRedis, *, timeout: float, replicas: int = 0) -> None:
        self._pool = client.connection_pool
        self._timeout = timeout
        self._replicas = replicas
        self._connection: Any = None

    async def run(
        self,
        script: Script,
        keys: Sequence[Any],
        arguments: Sequence[Any],
        on_send: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Run the script, and give its answers; `on_send` is called right before it is sent.

        A connection from before may have been closed by the server, as being idle: that is no
        outage, and the script is run once more. Raises RedisError, OSError, and TimeoutError when
        the timeout is over. The connection is dropped then, also after an answer: the address may
        lead to another server by now.
        """

        async def exchange() -> list[Any]:
            await self._connect()
            if on_send is not None:
                on_send()
            return await self._run_script(script, keys, arguments)

        answers: list[Any] = await self._try(exchange)
        return answers

    async def execute(self, *command: Any) -> Any:
        """Run a command, and give its answer; otherwise as `run`."""

        async def exchange() -> Any:
            await self._connect()
            return await self._execute(command)

        return await self._try(exchange)

    async def _try(self, exchange: Callable[[], Awaitable[Any]]) -> Any:
        is_old = self._connection is not None and self._connection.is_connected
        try:
            async with Deadline(self._timeout):
                try:
                    return await exchange()
                except RedisConnectionError as error:
                    if not is_old:
                        raise
                    logger.debug("A connection to Redis was closed; it is tried anew: %s", error)
                    await self.disconnect()
                    return await exchange()
        except BaseException as error:
            if isinstance(error, (RedisError, OSError)):
                note_incident(Incident.REDIS_ERROR)
            await self.disconnect()  # an answer on its way would be taken for the next one's
            raise

    async def disconnect(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it is lost either way
                await self._connection.disconnect(nowait=True)

    async def _run_script(
        self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]
    ) -> list[Any]:
        try:
            answer: list[Any] = await self._execute(script.by_sha(keys, arguments))
        except NoScriptError:
            answer = await self._execute(script.whole(keys, arguments))
        if self._replicas:
            await self._wait_for_replicas()
        return answer

    async def _wait_for_replicas(self) -> None:
        milliseconds = max(1, int(self._timeout * _WAIT_SHARE * 1000))  # 0 would have no end
        reached = await self._execute(("WAIT", self._replicas, milliseconds))
        if reached < self._replicas:
            raise TooFewReplicasError(
                f"{reached} replicas have what was written, and {self._replicas} have to"
                " (SERVICE_MIN_REPLICAS)"
            )

    async def _execute(self, command: tuple[Any, ...]) -> Any:
        await self._connection.send_command(*command, check_health=False)
        return await self._connection.read_response()

    async def _connect(self) -> None:
        if self._connection is None:
            # One deadline for the whole exchange, in place of redis-py's timer for each half of it.
            options = {**self._pool.connection_kwargs, "socket_timeout": None}
            self._connection = self._pool.connection_class(**options)
        if self._connection.is_connected and await self._connection.can_read():
            await self._connection.disconnect()  # the server has closed it since the last call
        await self._connection.connect()
