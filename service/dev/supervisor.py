"""Runs several processes as one: all of them, or none."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from service.dev.child import Child, Command
from service.dev.guardian import Guardian
from service.dev.output import Output
from service.errors import DevServerError

_ONE_REQUEST: Final = 1.0  # seconds; `timeout` and others send the same signal twice in a row
_LAST_LINES_WITHIN: Final = 0.5  # seconds to show what the processes logged last


async def supervise(
    stages: Sequence[Sequence[Command]], *, guardian: Guardian, opening: str, when_ready: str
) -> None:
    """Run the processes as `Supervisor.run` does, with their logs merged on our stdout.

    `opening` is said first, and `when_ready` once every stage is as ready as it can tell.
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
    supervisor = Supervisor(output=output, guardian=guardian)
    try:
        with supervisor.stopped_by_signals():
            output.say(opening)
            await supervisor.run(stages, on_ready=lambda: output.say(when_ready))
    finally:
        output.close(within=_LAST_LINES_WITHIN)


class Supervisor:
    """Starts stages of processes in order and stops them in reverse order.

    A stage is started when the one before it is ready; its processes start and stop together.
    """

    def __init__(self, *, output: Output, guardian: Guardian) -> None:
        self._output = output
        self._guardian = guardian
        self._stages: list[list[Child]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._hurry = asyncio.Event()
        self._asked_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[DevServerError | None] = self._loop.create_future()

    async def run(
        self, stages: Sequence[Sequence[Command]], *, on_ready: Callable[[], None]
    ) -> None:
        """Run the processes until `end` is called or a signal comes.

        `on_ready` is called when every process can be used. Raises DevServerError, after
        everything has been stopped, when a process cannot start or ends by itself.
        """
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
            await self._stop()

    def end(self, error: DevServerError | None) -> None:
        """Stop everything, because of `error` or because we were asked to; the first call wins."""
        if not self._end.done():
            self._end.set_result(error)

    async def _start(self, stages: Sequence[Sequence[Command]]) -> None:
        for commands in stages:
            stage: list[Child] = []
            self._stages.append(stage)
            for command in commands:
                child = await Child.start(command, output=self._output)
                self._guardian.watch(child.pid)
                stage.append(child)
                self._watching.append(asyncio.create_task(self._watch(child)))
            await asyncio.gather(*(child.wait_until_ready() for child in stage))

    async def _watch(self, child: Child) -> None:
        how = await child.wait()
        self.end(DevServerError(f"{child.command.name} {how}, so everything was stopped."))

    async def _stop(self) -> None:
        for stage in reversed(self._stages):
            await asyncio.gather(*(child.stop(hurry=self._hurry) for child in stage))
            for child in stage:
                self._guardian.forget(child.pid)
        await asyncio.gather(*self._watching)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP stop everything in order; a second one ends it by force."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to stay
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._loop.add_signal_handler(number, self._asked)
        try:
            yield
        finally:
            for number in numbers:
                self._loop.remove_signal_handler(number)

    def _asked(self) -> None:
        now = self._loop.time()
        if not self._asked_at:
            self._asked_at = now
            self._output.say("Stopping; Ctrl-C again ends everything at once.")
            self.end(None)
        elif now > self._asked_at + _ONE_REQUEST:
            self._hurry.set()
