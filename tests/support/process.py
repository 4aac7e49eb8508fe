"""Runs a real process for a test: start it, wait for what it prints, stop it, leave nothing."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.wait import PATIENCE, wait_until

ROOT: Final = Path(__file__).parents[2]
_TAIL_LINES: Final = 40


class Process:
    """A process in a session of its own, so that its whole group can be ended.

    Its environment is the test's without any `SERVICE_*` name, plus `env`; it runs in `cwd`
    (default: the repository) and finds the repository's modules. Use it as a context manager:
    on the way out it kills the group, and a test that fails is shown the end of the output.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        name: str | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.name = name or Path(self.command[0]).name
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SERVICE_")}
        self._env = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._cwd = cwd
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the process; its stdout and stderr go to one file."""
        self._popen = subprocess.Popen(
            self.command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    @property
    def pid(self) -> int:
        """The process's id, which is its group's id too."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._started().poll()

    @property
    def output(self) -> str:
        """All that the process has printed so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    @property
    def tail(self) -> str:
        """The last lines of the output, under a headline."""
        lines = self.output.splitlines()[-_TAIL_LINES:]
        return "\n".join([f"--- the last lines of {self.name} ---", *lines])

    def wait_for_output(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until the output has a match of `pattern`; fail at once if the process ends."""

        def find() -> re.Match[str] | None:
            ended = self.returncode  # asked first: what was printed last is then in the output
            if match := re.search(pattern, self.output, re.MULTILINE):
                return match
            if ended is not None:
                raise AssertionError(f"{self.name} ended with {ended} before it said {pattern!r}")
            return None

        match = wait_until(find, timeout=timeout, description=f"{self.name} says {pattern!r}")
        assert match is not None
        return match

    def wait(self, timeout: float = 60) -> int:
        """Wait until the process has ended by itself; its exit code."""
        try:
            return self._started().wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {timeout:g} s") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its group."""
        self._started().send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 60) -> int:
        """Send the signal and wait for the end; the exit code (negative: killed by a signal)."""
        self.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End the whole group with SIGKILL; harmless when it has ended."""
        if self._popen is None:
            return
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            self._popen.wait()

    def close(self) -> None:
        """Kill what is left and drop the output."""
        self.kill()
        self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self.tail)
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not yet reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:  # macOS, which has `ps` but no /proc
        ps = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith(("Z", "X")) and bool(state.strip())


def pids_with_env(name: str, value: str) -> set[int]:
    """The live processes that were started with this in their environment (Linux only).

    Set a unique value on a process to find all that it started, orphans and daemons included.
    """
    entry = f"{name}={value}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended while we looked, or another user's
    return {pid for pid in found if is_alive(pid)}


def processor_seconds(pid: int) -> float:
    """The seconds that a process and its threads have computed so far, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
