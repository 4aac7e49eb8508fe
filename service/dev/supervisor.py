"""Runs several processes as one: all of them, or none."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    loop = asyncio.get_running_loop()

    def unread(error: OSError) -> None:
        reason = DevServerError(f"The log cannot be written: {error.strerror}.")
        loop.call_soon_threadsafe(supervisor.end, reason)

    output = Output(
        sys.stdout.fileno(),
        width=max(len(command.name) for stage in stages for command in stage),
        colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        on_failure=unread,
    )
    supervisor = _Supervisor(output, guardian)
    try:
        with supervisor.stopped_by_signals():
            output.say(opening)
            await supervisor.run(stages, on_ready=lambda: output.say(when_ready))
    finally:
        output.close(within=_LAST_LINES_WITHIN)


class _Supervisor:
    def __init__(self, output: Output, guardian: Guardian) -> None:
        self._output = output
        self._guardian = guardian
        self._stages: list[list[_Child]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._force = asyncio.Event()
        self._asked_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DevServerError | None] = self._loop.create_future()

    async def run(
        self, stages: Sequence[Sequence[Command]], *, on_ready: Callable[[], None]
    ) -> None:
        starting = asyncio.create_task(self._start(stages))
        try:
            first: set[asyncio.Future[Any]] = {starting, self._end}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not self._end.done():
                starting.result()
                on_ready()
            if error := await self._end:
                raise error
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            for stage in reversed(self._stages):
                await asyncio.gather(*(child.stop(self._force) for child in stage))
                for child in stage:
                    self._guardian.forget(child.pid)
            await asyncio.gather(*self._watching)

    def end(self, error: DevServerError | None) -> None:
        """Stop everything, because of `error` or because we were asked to; the first call wins."""
        if not self._end.done():
            self._end.set_result(error)

    async def _start(self, stages: Sequence[Sequence[Command]]) -> None:
        for commands in stages:
            stage: list[_Child] = []
            self._stages.append(stage)
            for command in commands:
                child = await _spawn(command, self._output)
                self._guardian.watch(child.pid)
                stage.append(child)
                self._watching.append(asyncio.create_task(self._watch(child)))
            for probe in (command.probe for command in commands):
                while probe and not await probe.is_answered():  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_PAUSE)

    async def _watch(self, child: "_Child") -> None:
        how = await child.wait()
        self.end(DevServerError(f"{child.command.name} {how}, so everything was stopped."))

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP stop everything in order; a second one ends it by force."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to stay
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                self._loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        now = self._loop.time()
        if not self._asked_at:
            self._asked_at = now
            self._output.say("Stopping; Ctrl-C again ends everything at once.")
            self.end(None)
        elif now > self._asked_at + _ONE_REQUEST:
            self._force.set()


async def _spawn(command: Command, output: Output) -> "_Child":
    log = output.pipe(command.name)
    try:
        process = await asyncio.create_subprocess_exec(
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
    return _Child(command, process)


class _Child:
    """A started process, first of a group of its own that ends with it.

    In its own session it does not see the terminal's Ctrl-C, so it is told to stop just once.
    """

    def __init__(self, command: Command, process: Process) -> None:
        self.command = command
        self.pid = process.pid  # which is its group's id too
        self._process = process

    async def wait(self) -> str:
        """Wait for the end and say how it came: `exited with code 3`."""
        code = await self._process.wait()
        return f"exited with code {code}" if code >= 0 else f"was killed by {_name(-code)}"

    async def stop(self, force: asyncio.Event) -> None:
        """End the process in order, or by force once its time is over or `force` is set.

        The rest of its group, such as a pool's processes, is always ended by force.
        """
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        first = {asyncio.create_task(self._process.wait()), asyncio.create_task(force.wait())}
        timeout = self.command.stop_timeout
        _, late = await asyncio.wait(first, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        signal_group(self.pid, signal.SIGKILL)
        await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_WITHIN):
                while signal_group(self.pid, 0):  # noqa: ASYNC110 - no event tells of a group
                    await asyncio.sleep(_PAUSE)


def _name(number: int) -> str:
    return signal.Signals(number).name
