"""Finds the place in the user's own code where an error was raised; pure."""

import os
import re
import sys
from pathlib import Path
from typing import Final

_FRAME: Final = re.compile(r'^[ |+-]*File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_OURS: Final = f"{Path(__file__).parents[2]}{os.sep}"
_DEMO: Final = f"{_OURS}tasks{os.sep}"
_STANDARD: Final = f"{Path(os.__file__).parent}{os.sep}"
_INSTALLED: Final = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\]")
_BETWEEN: Final = ("celery/", "kombu/", "billiard/")  # those who call a task
_PARTS: Final = 3  # of a path that no entry of `sys.path` begins
_MAX: Final = 300  # characters


def place_of(traceback: str) -> str:
    """`shop/mail.py:send:12`, the innermost frame of the user's own code; empty if there is none.

    The user's own is what is not installed, or is installed along with the task's own function; the
    code that calls the function is not in question. Where nothing is the user's own, it is the
    innermost frame of all.
    """
    last = traceback.rpartition("Traceback (most recent call last):")[2]
    frames = [frame for frame in _FRAME.findall(last) if not _calls_tasks(frame[0])]
    if not frames:
        return ""
    package = _package_of(frames[0][0])
    own = [frame for frame in frames if _is_own(frame[0], package)]
    path, line, function = (own or frames)[-1]
    return f"{_short(path)}:{function}:{line}"[-_MAX:]


def _calls_tasks(path: str) -> bool:
    if path.startswith(_OURS) and not path.startswith(_DEMO):
        return True
    found = _INSTALLED.match(path)
    return found is not None and path[found.end() :].replace("\\", "/").startswith(_BETWEEN)


def _package_of(path: str) -> str | None:
    """The folder of the installed package that has this file; None where it is not installed."""
    found = _INSTALLED.match(path)
    if found is None:
        return None
    name = re.split(r"[/\\]", path[found.end() :], maxsplit=1)[0]
    return path[: found.end()] + name


def _is_own(path: str, package: str | None) -> bool:
    if _INSTALLED.match(path):
        return package is not None and _package_of(path) == package
    return not path.startswith((_STANDARD, "<"))


def _short(path: str) -> str:
    """The path as it is imported: alike on all machines, wherever the code lies there."""
    if found := _INSTALLED.match(path):
        return path[found.end() :]
    folders = [folder for folder in sys.path if folder and path.startswith(folder + os.sep)]
    if folders:
        return path[len(max(folders, key=len)) + 1 :]
    return "/".join(Path(path).parts[-_PARTS:])
