"""Lets a worker outlive the reader of its output, such as a log collector that has died.

Whoever writes to a pipe that nobody reads gets an error: Celery's banner, for one, and each `print`
of a job. From then on the output goes nowhere.
"""

import os
import select
import stat
import threading
from typing import Final

from celery import signals

_OUTPUTS: Final = (1, 2)


_watched: Final[set[int]] = set()  # ids of processes: a child of prefork has its own output


@signals.celeryd_init.connect
@signals.worker_process_init.connect
def _outlive_readers(**_: object) -> None:
    """Drop what is dead already, before Celery prints, and watch the rest."""
    if os.getpid() in _watched:
        return
    _watched.add(os.getpid())
    pipes = [fd for fd in _OUTPUTS if _is_pipe(fd)]
    poller = select.poll()
    for fd in pipes:
        poller.register(fd, 0)  # that there is no reader is told unasked
    _drop_dead(poller, pipes, 0)
    if pipes:
        watcher = threading.Thread(
            target=_watch, args=(poller, pipes), name="log-pipe", daemon=True
        )
        watcher.start()


def _watch(poller: select.poll, pipes: list[int]) -> None:
    while pipes:
        _drop_dead(poller, pipes, None)


def _drop_dead(poller: select.poll, pipes: list[int], timeout: float | None) -> None:
    for fd, _ in poller.poll(timeout):
        poller.unregister(fd)
        pipes.remove(fd)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, fd)
        os.close(nowhere)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:  # it was closed
        return False
