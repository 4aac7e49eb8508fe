"""Tells the user's own frames of a traceback from those of libraries and of the worker; pure."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FRAME: Final = re.compile(r'^[ |]*File "(?P<path>.+?)", line \d+, in ')
_ROOM: Final = Path(__file__).parents[3]
_OURS: Final = f"{_ROOM}{os.sep}"
_EXAMPLES: Final = f"{_ROOM / 'tasks'}{os.sep}"
_STANDARD: Final = re.compile(r"^<|[/\\](?:python3\.\d+|Lib)[/\\](?!.*-packages[/\\])")
_INSTALLED: Final = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_BETWEEN: Final = frozenset({"celery", "kombu", "billiard", "service", "vine", "greenlet"})


@dataclass(frozen=True, slots=True)
class Trace:
    """A traceback: `own` has the user's frames and what was raised, `whole` all of it.

    `others` is how many frames are in `whole` alone.
    """

    own: str
    whole: str
    others: int


def read_trace(text: str) -> Trace:
    """Find the user's own frames. Where no frame is, the innermost one stands for them."""
    blocks = [*_blocks(text.rstrip().splitlines())]
    paths = [path for path, _ in blocks if path]
    outside = (path for path in paths if not _STANDARD.search(path))
    package = next((each for each in map(_package, outside) if each not in _BETWEEN), None)
    own = [bool(path) and _is_users(path, package) for path, _ in blocks]
    if not any(own) and paths:
        own[max(i for i, (path, _) in enumerate(blocks) if path)] = True
    kept = [lines for (path, lines), is_own in zip(blocks, own, strict=True) if is_own or not path]
    others = sum(1 for (path, _), is_own in zip(blocks, own, strict=True) if path and not is_own)
    return Trace("\n".join(line for lines in kept for line in lines), text.rstrip(), others)


def _blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Each frame with its path, and the lines between frames with an empty one."""
    blocks: list[tuple[str, list[str]]] = []
    for line in lines:
        if (found := _FRAME.match(line)) is not None:
            blocks.append((found["path"], [line]))
        elif (blocks and blocks[-1][0] and line.startswith(("    ", "  |     ", "  ["))) or (
            blocks and not blocks[-1][0]
        ):
            blocks[-1][1].append(line)
        else:
            blocks.append(("", [line]))
    return blocks


def _package(path: str) -> str | None:
    """The installed package that a file is of; None for code that is not installed."""
    found = _INSTALLED.search(path)
    if found is not None:
        return found[1]
    is_ours = path.startswith(_OURS) and not path.startswith(_EXAMPLES)
    return "service" if is_ours else None


def _is_users(path: str, package: str | None) -> bool:
    """Whether it is the user's: not installed, or installed along with the task's function."""
    of = _package(path)
    return of == package if of is not None else not _STANDARD.search(path)
