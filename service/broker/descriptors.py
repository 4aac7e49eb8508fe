"""Asks whether this process may open as many files as a worker needs for its broker."""

import os
from typing import Final

# What a worker opens from its connection on: 13 to 15 with any pool, counted in /proc/<pid>/fd.
_NEEDED: Final = 16


def require_descriptors() -> None:
    """Raise OSError (EMFILE, ENFILE) unless the worker's connections can be opened.

    A worker that may open only some of them begins anew with all, and again, without an end.
    """
    opened: list[int] = []
    try:
        while len(opened) < _NEEDED:
            opened += os.pipe()
    except OSError as error:
        what = (
            f"{error.strerror}. Raise the limit (`ulimit -n`), or look for what leaves files open"
        )
        raise OSError(error.errno, what) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
