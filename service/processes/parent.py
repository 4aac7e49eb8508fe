"""The parent of `service worker`: keeps its processes alive, restarts them in turn, stops all."""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.processes.guardian import Guardian
from service.processes.heartbeat import INTERVAL, HeartbeatFile
from service.processes.kept_worker import KeptWorker, WorkerCommand, WorkerProcessError
from service.processes.notify import READY, STOPPING, WATCHDOG, Notifier

logger: Final = logging.getLogger(__name__)

MB: Final = 1_000_000

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# What the parent does itself, for all of its processes.
_OURS_ALONE: Final = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "SERVICE_HEALTH_FILE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersPlan:
    """What is run: `count` times `celery -A app worker`, with `options`.

    The workers are called `name` and a number. `max_memory` is the bytes above which a process is
    restarted; `health_file` is written while all are healthy; `ports` has, by the name of a
    variable, the port that the first process listens on, and the others on those after it.
    """

    app: str
    count: int
    options: tuple[str, ...] = ()
    name: str = "worker"
    max_memory: int | None = None
    health_file: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


def run_workers(plan: WorkersPlan) -> None:
    """Run the processes until a signal asks to stop.

    Raises WorkerProcessError, after all have ended, where one ended before it had started, or did
    not exit with 0 once it was told to stop.
    """
    with (
        tempfile.TemporaryDirectory(prefix="service-worker-") as folder,
        Guardian(Path(folder), stop_timeout=float("inf")) as guardian,
    ):
        asyncio.run(_run_parent(plan, Path(folder), guardian))


async def _run_parent(plan: WorkersPlan, folder: Path, guardian: Guardian) -> None:
    await _Parent(plan, folder, guardian).run()


class _Parent:
    def __init__(self, plan: WorkersPlan, folder: Path, guardian: Guardian) -> None:
        self._plan = plan
        self._file = HeartbeatFile(plan.health_file, plan.name) if plan.health_file else None
        self._notifier = Notifier.from_environment()
        self._processes = [
            KeptWorker(_command(plan, number), folder, guardian)
            for number in range(1, plan.count + 1)
        ]
        self._asked = asyncio.Event()  # to restart all
        self._one_at_a_time = asyncio.Lock()
        self._stopping = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to stay
            loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        keeping = [asyncio.create_task(each.keep()) for each in self._processes]
        beside = asyncio.create_task(self._beside())
        # Ends when all have, or with the first error; nothing but an error ends what is beside.
        kept = asyncio.create_task(asyncio.wait(keeping, return_when=asyncio.FIRST_EXCEPTION))
        await asyncio.wait([kept, beside], return_when=asyncio.FIRST_COMPLETED)
        if not self._stopping:
            self._stop(signal.SIGTERM)
        await asyncio.wait(keeping)
        beside.cancel()
        with suppress(asyncio.CancelledError):
            await beside
        if self._file is not None:
            self._file.remove()
        codes = zip(self._processes, [task.result() for task in keeping], strict=True)
        if failed := [f"{each.name} with {code}" for each, code in codes if code]:
            raise WorkerProcessError(f"Not every process ended with 0: {', '.join(failed)}.")

    def _stop(self, number: int) -> None:
        """Pass a signal to stop on to all; a worker knows what a second one means."""
        if not self._stopping and self._notifier is not None:
            self._notifier.tell(STOPPING)
        self._stopping = True
        for each in self._processes:
            each.stop(number)

    async def _beside(self) -> None:
        """Say that all are up, and then do what is to be done beside keeping them alive."""
        for each in self._processes:
            await each.is_up.wait()
        logger.info("All %d processes have started.", len(self._processes))
        if self._notifier is not None:
            self._notifier.tell(READY)
        jobs = [self._beat(), self._restart_when_asked()]
        if self._plan.max_memory is not None:
            jobs.append(self._limit_memory(self._plan.max_memory))
        await asyncio.gather(*jobs)

    async def _beat(self) -> None:
        """Tell that the service is healthy for as long as each process that runs is."""
        watchdog = self._notifier.interval if self._notifier else 0.0
        while True:
            if all(each.is_healthy() for each in self._processes):
                if watchdog and self._notifier is not None:
                    self._notifier.tell(WATCHDOG)
                if self._file is not None:
                    self._file.beat()
            await asyncio.sleep(min(INTERVAL, watchdog or INTERVAL))

    async def _restart_when_asked(self) -> None:
        """Start all anew, one after the other, with the code that is there now.

        The others go on with the old code when one does not come up.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            logger.info("Restarting the processes, one after the other.")
            for each in self._processes:
                async with self._one_at_a_time:
                    is_up = await each.restart()
                if not is_up:
                    text = "%s does not come up, so the processes after it are not restarted."
                    logger.error(text, each.name)
                    break
            else:
                logger.info("All processes have been restarted.")

    async def _limit_memory(self, limit: int) -> None:
        """Restart what holds more memory, one after the other."""
        while True:
            await asyncio.sleep(INTERVAL)
            for each in self._processes:
                held = each.memory()
                if held > limit:
                    text = "%s holds %d MB of memory, so it is restarted."
                    logger.warning(text, each.name, held // MB)
                    async with self._one_at_a_time:
                        await each.restart()


def _command(plan: WorkersPlan, number: int) -> WorkerCommand:
    """That of the process with this number, from 1 on."""
    name = f"{plan.name}{number}"
    ports = {variable: str(first + number - 1) for variable, first in plan.ports.items()}
    env = {k: v for k, v in os.environ.items() if k not in _OURS_ALONE}
    argv = [sys.executable, "-m", "celery", "-A", plan.app, "worker", "--hostname", f"{name}@%h"]
    return WorkerCommand(name=name, argv=(*argv, *plan.options), env={**env, **ports})
