"""Tasks that note what they do in a file; loaded through SERVICE_TASK_MODULES."""

import asyncio
import os
import signal
import time

from service import TaskBlueprint
from tests.support.noting import Run

tasks = TaskBlueprint("faults")


@tasks.task
async def work(label: str, seconds: float = 0) -> str:
    """Take a while."""
    run = Run(label)
    await asyncio.sleep(seconds)
    run.end()
    return label


@tasks.task
def work_in_thread(label: str, seconds: float = 0) -> str:
    """Take a while in a sync body."""
    run = Run(label)
    time.sleep(seconds)
    run.end()
    return label


@tasks.task
async def echo(text: str) -> str:
    """Give back what was given."""
    return text


@tasks.task
async def noop() -> None:
    """Nothing, as fast as possible."""


@tasks.task
async def die(label: str, seconds: float = 0) -> None:
    """Kill the process that runs it."""
    Run(label)
    await asyncio.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


@tasks.task
async def leave(label: str) -> None:
    """End the process that runs it, past every handler."""
    Run(label)
    os._exit(3)
