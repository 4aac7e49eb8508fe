"""Runs several processes as one: all of them, or none."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from service.dev.guardian import Guardian, signal_group
from service.dev.output import Output
from service.errors import DevServerError

_ONE_REQUEST: Final = 1.0  # seconds; `timeout` and others send the same signal twice in a row
_LAST_LINES_WITHIN: Final = 0.5  # seconds to show what the processes logged last
_GONE_WITHIN: Final = 1.0  # seconds for a group to vanish after SIGKILL
_PROBE_TIMEOUT: Final = 5.0  # seconds without an answer
_PAUSE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that a server answers, in a line that begins with `answer`, once it is ready."""

    host: str
    port: int
    question: bytes
    answer: bytes

    async def is_answered(self) -> bool:
        """Ask once."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(self.question)
                    return (await reader.readline()).startswith(self.answer)
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to run.

    `env` is added to our environment; `keep_open` lists descriptors that the process inherits;
    `stop_timeout` is the seconds between SIGTERM and SIGKILL; `probe` tells whether it is ready.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    keep_open: tuple[int, ...] = ()
    stop_timeout: float = 6.0
    probe: Probe | None = None


async def supervise(
    stages: Sequence[Sequence[Command]], *, guardian: Guardian, opening: str, when_ready: str
) -> None:
    """Run the processes, with their logs merged on our stdout, until a signal asks to stop.

    A stage is started when the one before it is ready; stages are stopped in reverse order. The log
    begins with `opening`, and has `when_ready` once every stage is as ready as it can tell.
    Raises DevServerError, after all was stopped, when a process cannot start or ends by itself.
    """
    width = max(len(command.name) for stage in stages for command in stage)
    await _Supervisor(width, guardian).run(stages, opening, when_ready)


class _Supervisor:
    def __init__(self, width: int, guardian: Guardian) -> None:
        self._guardian = guardian
        self._stages: list[list[tuple[Command, Process]]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._force = asyncio.Event()
        self._asked_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DevServerError | None] = self._loop.create_future()
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._output = Output(
            sys.stdout.fileno(), width=width, colour=colour, on_failure=self._on_unread
        )

    async def run(self, stages: Sequence[Sequence[Command]], opening: str, when_ready: str) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to stay
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._loop.add_signal_handler(number, self._on_signal)
        self._output.say(opening)
        starting = asyncio.create_task(self._start(stages))
        try:
            first: set[asyncio.Future[Any]] = {starting, self._end}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not self._end.done():
                starting.result()
                self._output.say(when_ready)
            if error := await self._end:
                raise error
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            for stage in reversed(self._stages):
                await asyncio.gather(*(self._stop(*child) for child in stage))
            await asyncio.gather(*self._watching)
            for number in numbers:
                self._loop.remove_signal_handler(number)
            self._output.close(within=_LAST_LINES_WITHIN)

    async def _start(self, stages: Sequence[Sequence[Command]]) -> None:
        for commands in stages:
            stage: list[tuple[Command, Process]] = []
            self._stages.append(stage)
            for command in commands:
                process = await self._spawn(command)
                self._guardian.watch(process.pid)
                stage.append((command, process))
                self._watching.append(asyncio.create_task(self._watch(command, process)))
            for probe in (command.probe for command in commands):
                while probe and not await probe.is_answered():  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_PAUSE)

    async def _spawn(self, command: Command) -> Process:
        """Start a process as the first of a group of its own, whose id is the process's.

        In its own session it does not see the terminal's Ctrl-C, so it is told to stop just once.
        """
        log = self._output.pipe(command.name)
        try:
            return await asyncio.create_subprocess_exec(
                *command.argv,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **command.env},
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=command.keep_open,
                start_new_session=True,
            )
        except OSError as error:
            raise DevServerError(f"{command.name} cannot be started: {error}.") from error
        finally:
            os.close(log)

    async def _watch(self, command: Command, process: Process) -> None:
        code = await process.wait()
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
        how = killed or f"exited with code {code}"
        self._stop_all(DevServerError(f"{command.name} {how}, so everything was stopped."))

    async def _stop(self, command: Command, process: Process) -> None:
        """End a process in order, or by force once its time is over or a second signal has come.

        The rest of its group, such as a pool's processes, is always ended by force.
        """
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        first = {asyncio.create_task(process.wait()), asyncio.create_task(self._force.wait())}
        timeout = command.stop_timeout
        _, late = await asyncio.wait(first, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_WITHIN):
                while signal_group(process.pid, 0):  # noqa: ASYNC110 - no event tells of a group
                    await asyncio.sleep(_PAUSE)
        self._guardian.forget(process.pid)

    def _stop_all(self, error: DevServerError | None) -> None:
        """Stop everything, because of `error` or because we were asked to; the first call wins."""
        if not self._end.done():
            self._end.set_result(error)

    def _on_signal(self) -> None:
        """The first signal stops everything in order; a second one ends it by force."""
        now = self._loop.time()
        if not self._asked_at:
            self._asked_at = now
            self._output.say("Stopping; Ctrl-C again ends everything at once.")
            self._stop_all(None)
        elif now > self._asked_at + _ONE_REQUEST:
            self._force.set()

    def _on_unread(self, error: OSError) -> None:
        reason = DevServerError(f"The log cannot be written: {error.strerror}.")
        self._loop.call_soon_threadsafe(self._stop_all, reason)
