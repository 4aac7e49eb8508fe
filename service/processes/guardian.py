"""Ends processes when the one that started them was killed before it could.

The supervisor of `service dev`, and the parent of `service worker`, start this file as a process of
its own and name every group that they start on its standard input. When that input ends and groups
are left, whoever named them has died. (One that was started but not yet named is left too: that
takes a moment.) Only the standard library is used, so it starts in a few milliseconds.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_PAUSE: Final = 0.05


class Guardian:
    """Ends what this process leaves when it is killed; deletes the folder `temporary` then."""

    def __init__(self, temporary: Path | None, *, stop_timeout: float = 5.0) -> None:
        """`stop_timeout` is the time between SIGTERM and SIGKILL, in seconds; may be infinite."""
        arguments = [str(stop_timeout), *([str(temporary)] if temporary else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """Take care of the process group from now on."""
        self._send(f"watch {group}\n")

    def forget(self, group: int) -> None:
        """The group has ended; its number may come to mean another."""
        self._send(f"forget {group}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)  # ends its input and waits for it

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def signal_group(group: int, number: int) -> bool:
    """Send a signal (0: none) to a whole process group; whether it has any process left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS: not permitted once all are zombies
        return False
    return True


def _guard(stop_timeout: float, temporary: str | None) -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        word, number = line.split()
        (groups.add if word == "watch" else groups.discard)(int(number))
    for group in groups:
        with suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)  # the first process of a group ends the others itself
    deadline = time.monotonic() + stop_timeout
    while any(signal_group(group, 0) for group in groups) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    for group in groups:
        signal_group(group, signal.SIGKILL)
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    _guard(float(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None)
