"""Tasks that a worker cannot stop, and a hold on its log; loaded through SERVICE_TASK_MODULES."""

import ctypes
import logging
import os
import resource
import time
from pathlib import Path
from typing import Any

from celery import signals

from service import TaskBlueprint, current_job
from tests.support.sample_tasks import gate, note

tasks = TaskBlueprint("stop")


@tasks.task
async def block_loop(seconds: float) -> None:
    """Keep the event loop from turning, as a call in C does."""
    note(f"started {current_job.id}")
    time.sleep(seconds)  # noqa: ASYNC251  it is what the test is about


@tasks.task
def hold_interpreter(seconds: int) -> None:
    """Let no other thread run Python once the test opens the gate, unless it opened another.

    So does code in C that takes long and never lets go, such as a regular expression's.
    """
    note(f"started {current_job.id}")
    gate("hold")
    if not Path(os.environ["SAMPLE_GATES"], "free").exists():
        ctypes.PyDLL(None).sleep(seconds)


@tasks.task
def end_in_thread(at: str) -> str:
    """End well when the test opens the gate."""
    note(f"started {current_job.id}")
    gate(at)
    note(f"ended {current_job.id}")
    return at


@tasks.task
async def limit_address_space(spare: int) -> None:
    """Leave the worker so many bytes more than it has; none: as many as it likes."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])  # noqa: ASYNC240  not a disk's
    size = pages * resource.getpagesize() + spare if spare else hard
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


@signals.worker_shutting_down.connect
def hold_log(**_: Any) -> None:
    """Hold the log's lock in the main thread, until the test has sent a second signal."""
    if "SAMPLE_HOLDS_LOG" in os.environ:
        handler = logging.getLogger().handlers[0]
        handler.acquire()
        try:
            note("holds the log")
            gate("log")
        finally:
            handler.release()
