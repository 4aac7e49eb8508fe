"""One of the processes of `service worker`: started, and started again when it has ended."""

import asyncio
import logging
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.errors import ServiceError
from service.processes.guardian import Guardian, signal_group
from service.processes.notify import READY, TAKES_JOBS, WATCHDOG

logger: Final = logging.getLogger(__name__)

_BEAT_WITHIN: Final = 15.0  # seconds; a process whose loop turns beats every 5
_WATCHDOG_USEC: Final = "10000000"  # a process beats at least twice in that time
_FIRST_PAUSE: Final = 1.0  # seconds before a process that has ended is started again
_LAST_PAUSE: Final = 60.0
_TAKES_JOBS_WITHIN: Final = 10.0  # seconds, after a restart, before the next one is stopped
_STEADY_AFTER: Final = 60.0  # seconds after which an end does not count as one of a row


class WorkerProcessError(ServiceError):
    """A process of `service worker` ended before it had started, or not in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """How a process is started; `env` is its whole environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


class _Life(asyncio.DatagramProtocol):
    """A process from its start to its end, and what it says by sd_notify meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.began = self.beat = self._loop.time()
        self.is_up: asyncio.Future[bool] = self._loop.create_future()
        self.takes_jobs = asyncio.Event()
        self.process: Process | None = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Note that the process has started, or that its event loop turns."""
        words = data.decode(errors="replace").split("\n")
        if READY in words or WATCHDOG in words:
            self.beat = self._loop.time()
        if TAKES_JOBS in words:
            self.takes_jobs.set()
        if READY in words and not self.is_up.done():
            self.is_up.set_result(True)

    def end(self) -> bool:
        """Whether it was up, now that it has ended."""
        if not self.is_up.done():
            self.is_up.set_result(False)
        return self.is_up.result()


class KeptWorker:
    """Keeps one process alive."""

    def __init__(
        self,
        command: WorkerCommand,
        folder: Path,
        guardian: Guardian,
        *,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        """`folder` is for the socket on which the process is heard.

        `first_pause` is the time between an end and the next start, in seconds; it doubles while
        the process ends again and again, up to a minute.
        """
        self.name = command.name
        self._command = command
        self._address = folder / f"{command.name}.socket"
        self._guardian = guardian
        self._first_pause = first_pause
        self._loop = asyncio.get_running_loop()
        self._life: _Life | None = None
        self._next: asyncio.Future[_Life] | None = None  # of a restart
        self._hurry = asyncio.Event()  # ends the pause before a start
        self._stopping = False
        self.is_up = asyncio.Event()  # it has started, once at least

    async def keep(self) -> int:
        """Run it until it is stopped; the exit code of the last run.

        Raises WorkerProcessError where the very first one ends before it has started.
        """
        pause = self._first_pause
        code = 0
        while not self._stopping:
            life = _Life()
            try:
                code = await self._run(life)
            except OSError as error:  # no memory, or too many processes or descriptors
                logger.error("%s cannot be started: %s", self.name, error)  # noqa: TRY400  one line
                code = 1
            was_up = life.end()
            if self._stopping:
                break
            if not (was_up or self.is_up.is_set()):
                raise WorkerProcessError(f"{self.name} {_how(code)} before it had started.")
            if self._next is not None and life.process is not None:
                pause = self._first_pause
                continue
            if was_up and self._loop.time() - life.began > _STEADY_AFTER:
                pause = self._first_pause
            logger.error("%s %s; it is started again in %g s.", self.name, _how(code), pause)
            self._hurry.clear()
            await _wait(self._hurry, pause)
            pause = min(2 * pause, _LAST_PAUSE)
        return code

    async def restart(self) -> bool:
        """Stop it in order, and start it anew; whether the new one came up."""
        self._next = self._loop.create_future()
        try:
            self._signal(signal.SIGTERM)
            self._hurry.set()
            life = await self._next
        finally:
            self._next = None
        is_up = await life.is_up
        if is_up:
            await _wait(life.takes_jobs, _TAKES_JOBS_WITHIN)
        return is_up

    def stop(self, number: int) -> None:
        """Send it a signal to stop, after which it is not started again."""
        self._stopping = True
        self._hurry.set()
        self._signal(number)

    def is_healthy(self, within: float = _BEAT_WITHIN) -> bool:
        """Whether its event loop has turned within these seconds.

        One that is about to start is not judged.
        """
        life = self._life
        if life is None or not life.is_up.done():
            return True
        return self._loop.time() - life.beat < within

    def memory(self) -> int:
        """The bytes of memory that it holds (Linux); 0 where it does not run."""
        process = None if self._life is None else self._life.process
        if process is None:
            return 0
        try:
            pages = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def _run(self, life: _Life) -> int:
        """Start the process, the first of a group of its own, and wait for its end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            self._address.unlink(missing_ok=True)
            heard.bind(os.fspath(self._address))
            transport, _ = await self._loop.create_datagram_endpoint(lambda: life, sock=heard)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command.argv,
                    env={
                        **self._command.env,
                        "NOTIFY_SOCKET": os.fspath(self._address),
                        "WATCHDOG_USEC": _WATCHDOG_USEC,
                    },
                    stdin=DEVNULL,
                    start_new_session=True,
                )
                self._guardian.watch(process.pid)
                life.process, self._life = process, life
                life.is_up.add_done_callback(self._tell_up)
                if self._next is not None:
                    self._next.set_result(life)
                if self._stopping:  # since before there was anything to signal
                    process.terminate()
                code = await process.wait()
                signal_group(process.pid, signal.SIGKILL)  # what a killed one has left
                self._guardian.forget(process.pid)
            finally:
                self._life = None
                transport.close()
        return code

    def _tell_up(self, is_up: asyncio.Future[bool]) -> None:
        if is_up.result():
            self.is_up.set()

    def _signal(self, number: int) -> None:
        if self._life is not None and self._life.process is not None:
            with suppress(ProcessLookupError):
                self._life.process.send_signal(number)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
