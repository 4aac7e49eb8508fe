"""One process of `service worker`, played by small programs: ends, restarts, memory, beats."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.processes.guardian import Guardian
from service.processes.kept_worker import KeptWorker, WorkerCommand, WorkerProcessError
from tests.support.process import is_alive
from tests.support.wait import wait_until_async

# Says that it has started and takes jobs, notes its id, and ends with 0 when it is told to stop.
_GOOD = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(os.environ["NOTES"], "a").write(f"{os.getpid()}\\n")
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for said in "READY=1", "STATUS=Takes jobs.", "WATCHDOG=1":
    manager.sendto(said.encode(), os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""


class _Kept:
    """A process that is kept alive, and where its runs are noted."""

    def __init__(self, folder: Path, guardian: Guardian) -> None:
        self.program = folder / "program.py"
        self.program.write_text(_GOOD)
        self._notes = folder / "notes"
        env = {**os.environ, "NOTES": str(self._notes)}
        self.python = folder / "python"
        self.python.symlink_to(sys.executable)
        argv = (str(self.python), "-I", "-S", str(self.program))
        command = WorkerCommand(name="w1", argv=argv, env=env)
        self.process = KeptWorker(command, folder, guardian, first_pause=0.01)
        self.keeping = asyncio.create_task(self.process.keep())

    @property
    def pids(self) -> list[int]:
        """Of all its runs so far."""
        return [int(each) for each in self._notes.read_text().split()]

    async def has_run(self, times: int) -> None:
        """Wait until it has been started so often."""
        await wait_until_async(lambda: len(self.pids) == times, description=f"{times} runs")


@asynccontextmanager
async def _kept(folder: Path) -> AsyncIterator[_Kept]:
    with Guardian(None) as guardian:
        kept = _Kept(folder, guardian)
        try:
            yield kept
        finally:
            kept.process.stop(signal.SIGKILL)
            await asyncio.wait([kept.keeping])


async def test_what_was_killed_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause, which grows while it ends again and again."""
    async with _kept(tmp_path) as kept:
        await kept.process.is_up.wait()
        for times in 1, 2, 3:
            await kept.has_run(times)
            os.kill(kept.pids[-1], signal.SIGKILL)
        await kept.has_run(4)
        kept.process.stop(signal.SIGTERM)
        assert await kept.keeping == 0
        assert not any(is_alive(pid) for pid in kept.pids)
    assert [record.getMessage() for record in caplog.records] == [
        f"w1 was killed by SIGKILL; it is started again in {pause:g} s."
        for pause in (0.01, 0.02, 0.04)
    ]


async def test_one_that_never_starts_is_an_error(tmp_path: Path) -> None:
    """It would not start the next time either: the app is wrong."""
    async with _kept(tmp_path) as kept:
        kept.program.write_text("raise SystemExit(3)")
        with pytest.raises(WorkerProcessError, match="w1 exited with code 3 before it had started"):
            await kept.keeping


async def test_a_restart_says_whether_it_came_up(tmp_path: Path) -> None:
    """So that the old code of the other processes goes on where the new code is wrong."""
    async with _kept(tmp_path) as kept:
        await kept.process.is_up.wait()
        assert await kept.process.restart()
        assert len(kept.pids) == 2
        assert not is_alive(kept.pids[0])
        kept.program.write_text("raise SystemExit(3)")
        assert not await kept.process.restart()
        kept.program.write_text(_GOOD)  # mended: it need not wait for its next attempt
        assert await kept.process.restart()
        assert is_alive(kept.pids[-1])


async def test_a_restart_that_the_system_refuses_pauses_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when there is no memory for a process: it is tried again, and not at once."""
    async with _kept(tmp_path) as kept:
        await kept.process.is_up.wait()
        kept.python.unlink()
        restarting = asyncio.create_task(kept.process.restart())
        await wait_until_async(
            lambda: "it is started again in 0.02 s" in caplog.text, description="it pauses"
        )
        kept.python.symlink_to(sys.executable)
        assert await restarting
        assert is_alive(kept.pids[-1])


async def test_it_tells_of_its_memory_and_its_health(tmp_path: Path) -> None:
    """One that does not beat any more is not healthy; one that is about to start is not judged."""
    async with _kept(tmp_path) as kept:
        assert kept.process.is_healthy()
        await kept.process.is_up.wait()
        assert kept.process.is_healthy()
        assert 3_000_000 < kept.process.memory() < 100_000_000
        assert not kept.process.is_healthy(within=0)
        kept.process.stop(signal.SIGTERM)
        await kept.keeping
        assert kept.process.memory() == 0
