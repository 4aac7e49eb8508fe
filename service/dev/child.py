"""One process under the supervisor: how it is started, and how it is surely ended."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from service.dev.guardian import signal_group
from service.dev.output import Output
from service.errors import DevServerError

_GONE_WITHIN: Final = 1.0  # seconds for a group to vanish after SIGKILL
_PAUSE: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to run.

    `env` is added to our environment; `keep_open` lists descriptors that the process inherits;
    `patience` is the seconds between SIGTERM and SIGKILL; `is_ready` tells whether it can be used.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    keep_open: tuple[int, ...] = ()
    patience: float = 6.0
    is_ready: Callable[[], Awaitable[bool]] | None = None


class Child:
    """A started process, first of a group of its own that ends with it.

    In its own session it does not see the terminal's Ctrl-C, so it is told to stop just once.
    """

    def __init__(self, command: Command, process: Process) -> None:
        self.command = command
        self._process = process

    @classmethod
    async def start(cls, command: Command, *, output: Output) -> "Child":
        """Start the process. Raises DevServerError if that cannot be done."""
        log = output.pipe(command.name)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **command.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=command.keep_open,
                start_new_session=True,
            )
        except OSError as error:
            raise DevServerError(f"{command.name} cannot be started: {error}.") from error
        finally:
            os.close(log)
        return cls(command, process)

    @property
    def pid(self) -> int:
        """The process's id, which is its group's id too."""
        return self._process.pid

    async def wait(self) -> str:
        """Wait for the end and say how it came: `exited with code 3`."""
        code = await self._process.wait()
        if code >= 0:
            return f"exited with code {code}"
        return f"was killed by {signal.Signals(-code).name}"

    async def wait_until_ready(self) -> None:
        """Ask again and again: there is no event for what another process is able to do."""
        is_ready = self.command.is_ready
        while is_ready and not await is_ready():  # noqa: ASYNC110 - see above
            await asyncio.sleep(_PAUSE)

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """End the process in order, or by force once its patience is over or `hurry` is set.

        What is left of its group, such as a pool's processes, is always ended by force.
        """
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        first = {asyncio.create_task(self._process.wait()), asyncio.create_task(hurry.wait())}
        _, late = await asyncio.wait(
            first, timeout=self.command.patience, return_when=asyncio.FIRST_COMPLETED
        )
        for task in late:
            task.cancel()
        signal_group(self.pid, signal.SIGKILL)
        await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_WITHIN):
                while signal_group(self.pid, 0):  # noqa: ASYNC110 - no event tells of a group
                    await asyncio.sleep(_PAUSE)
