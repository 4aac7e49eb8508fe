"""Ends a process that a body has made by forking where that body ends: all else is the worker's.

Such a copy has the worker's connections, results and acknowledgements, and the descriptors of its
event loop. If it went on with them, both processes would read and write there.
"""

import os
from typing import Final

from celery import signals

COPIES: Final[list[int]] = []  # this process's id, if it is a copy; asked at each step of a job


def end_copy() -> None:
    """End this process, which is a copy, without anything that Python does at an exit."""
    os._exit(0)


@signals.worker_process_init.connect
def _is_to_run_jobs(**_: object) -> None:
    """Prefork has forked this process, to run jobs."""
    COPIES.clear()


os.register_at_fork(after_in_child=lambda: COPIES.append(os.getpid()))
