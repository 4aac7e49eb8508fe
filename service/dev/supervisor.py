"""Runs several processes as one: all of them, or none; starts some anew when code changes."""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from service.dev.output import Output
from service.dev.probe import Probe
from service.errors import DevServerError
from service.processes.guardian import Guardian, signal_group
from service.redis.deadline import Deadline

_ONE_REQUEST: Final = 1.0  # seconds; `timeout` and others send the same signal twice in a row
_LAST_LINES_WITHIN: Final = 0.5  # seconds to show what the processes logged last
_GONE_WITHIN: Final = 1.0  # seconds for a group to vanish after SIGKILL
_PAUSE: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to run.

    `env` is added to our environment, and a None takes out of it; `umask` is that of its files;
    `keep_open` lists descriptors that the process inherits;
    `stop_timeout` is the seconds between SIGTERM and SIGKILL; `probe` tells whether it is ready.
    One that `reloads` is started anew after each change, and may end in between.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)
    umask: int = -1
    keep_open: tuple[int, ...] = ()
    stop_timeout: float = 6.0
    probe: Probe | None = None
    reloads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happens beside the processes.

    The log begins with `opening`, and has `when_ready` once every stage is as ready as it can tell;
    `on_ready` is then called in a thread. `changes` gives files that changed together; after each,
    those commands are started anew that reload, unless `check` exits with another code than 0.
    """

    opening: str
    when_ready: str
    on_ready: Callable[[], object] | None = None
    changes: AsyncIterator[list[str]] | None = None
    check: Command | None = None


@dataclass(slots=True, eq=False)
class _Child:
    """A process that was started, and the task that waits for its end."""

    command: Command
    process: Process
    watching: asyncio.Task[None]


async def supervise(
    stages: Sequence[Sequence[Command]], *, guardian: Guardian, course: Course
) -> None:
    """Run the processes, with their logs merged on our stdout, until a signal asks to stop.

    A stage is started when the one before it is ready; stages are stopped in reverse order. Raises
    DevServerError, after all was stopped, when a process cannot start, or one ends by itself that
    does not reload.
    """
    width = max(len(command.name) for stage in stages for command in stage)
    await _Supervisor(width, guardian).run(stages, course)


class _Supervisor:
    def __init__(self, width: int, guardian: Guardian) -> None:
        self._guardian = guardian
        self._stages: list[list[_Child]] = []
        self._force = asyncio.Event()
        self._asked_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DevServerError | None] = self._loop.create_future()
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._output = Output(
            sys.stdout.fileno(), width=width, colour=colour, on_failure=self._on_unread
        )

    async def run(self, stages: Sequence[Sequence[Command]], course: Course) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to stay
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._loop.add_signal_handler(number, self._on_signal)
        self._output.say(course.opening)
        starting = asyncio.create_task(self._start(stages))
        tasks = [starting]
        if course.changes is not None:
            tasks.append(asyncio.create_task(self._reload(course.changes, course.check)))
        try:
            first: set[asyncio.Future[Any]] = {starting, self._end}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not self._end.done():
                starting.result()
                self._output.say(course.when_ready)
                if course.on_ready is not None:
                    threading.Thread(target=course.on_ready, daemon=True).start()
            if error := await self._end:
                raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stage in reversed(self._stages):
                await asyncio.gather(*(self._stop(child, stage) for child in stage))
            for number in numbers:
                self._loop.remove_signal_handler(number)
            self._output.close(within=_LAST_LINES_WITHIN)

    async def _start(self, stages: Sequence[Sequence[Command]]) -> None:
        for commands in stages:
            stage: list[_Child] = []
            self._stages.append(stage)
            for command in commands:
                await self._spawn(command, stage)
            for probe in (command.probe for command in commands):
                while probe and not await probe.is_answered():  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_PAUSE)

    async def _reload(self, changes: AsyncIterator[list[str]], check: Command | None) -> None:
        """Start anew what reloads after each change; end everything where changes are not seen."""
        try:
            async for names in changes:
                await self._start_anew(names, check)
        except DevServerError as error:
            self._stop_all(error)

    async def _start_anew(self, names: list[str], check: Command | None) -> None:
        what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        is_usable = check is None or await self._succeeds(check)
        stages = [
            (stage, [child for child in stage if child.command.reloads]) for stage in self._stages
        ]
        which = ", ".join(child.command.name for _, children in stages for child in children)
        if not which:  # nothing has been started that could have the old code
            return
        if not is_usable:
            self._output.say(f"{what} changed; the old code goes on, until the next change.")
            return
        self._output.say(f"{what} changed; starting {which} anew.")
        for stage, children in reversed(stages):
            await asyncio.gather(*(self._stop(child, stage) for child in children))
        for stage, children in stages:
            for child in children:
                await self._spawn(child.command, stage)

    async def _succeeds(self, command: Command) -> bool:
        """Run a command that ends by itself, and show what it says; whether it exits with 0."""
        process = await self._begin(command, self._output.pipe())
        try:
            return await process.wait() == 0
        finally:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()
            self._guardian.forget(process.pid)

    async def _spawn(self, command: Command, stage: list[_Child]) -> None:
        process = await self._begin(command, self._output.pipe(command.name))
        watching = asyncio.create_task(self._watch(command, process))
        stage.append(_Child(command, process, watching))

    async def _begin(self, command: Command, log: int) -> Process:
        """Start a process as the first of a group of its own, whose id is the process's.

        In its own session it does not see the terminal's Ctrl-C, so it is told to stop just once.
        """
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **command.env}
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={name: value for name, value in env.items() if value is not None},
                umask=command.umask,
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
        self._guardian.watch(process.pid)
        return process

    async def _watch(self, command: Command, process: Process) -> None:
        """Tell that a process has ended by itself, and stop the others unless it reloads."""
        code = await process.wait()
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
        how = f"{command.name} {killed or f'exited with code {code}'}"
        if not command.reloads:
            self._stop_all(DevServerError(f"{how}, so everything was stopped."))
        elif not self._end.done():
            self._output.say(f"{how}; it starts again after the next change of code.")

    async def _stop(self, child: _Child, stage: list[_Child]) -> None:
        """End a process in order, or by force once its time is over or a second signal has come.

        The rest of its group, such as a pool's processes, is always ended by force.
        """
        command, process = child.command, child.process
        child.watching.cancel()
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
            async with Deadline(_GONE_WITHIN):
                while signal_group(process.pid, 0):  # noqa: ASYNC110 - no event tells of a group
                    await asyncio.sleep(_PAUSE)
        self._guardian.forget(process.pid)
        stage.remove(child)

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
