"""Tasks that note what they do in a file; loaded through SERVICE_TASK_MODULES."""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery.utils.log import get_task_logger

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


@tasks.task(bind=True)
def retry_later(self: Any, label: str, seconds: float) -> bool:
    """Retry once, after a while; whether the second attempt knows its ETA."""
    Run(label)
    if not self.request.retries:
        raise self.retry(countdown=seconds)
    return self.request.eta is not None


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


@tasks.task
async def hold_error(label: str, marker: str) -> None:
    """Be held by a cycle when it is cancelled the first time; end well the second time."""
    Run(label)
    if await asyncio.to_thread(_was_there, Path(marker)):
        return
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError as error:
        held = [error]  # whose traceback holds this frame
        assert held
        raise


@tasks.task
async def cancel_all(label: str) -> None:
    """Cancel every asyncio task of the loop, as a careless clean-up does."""
    run = Run(label)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0.1)
    run.end()


def _was_there(path: Path) -> bool:
    found = path.exists()
    path.touch()
    return found


@tasks.task
async def shout(label: str) -> str:
    """Print and log what was given."""
    return _shout(label)


@tasks.task
def shout_in_thread(label: str) -> str:
    """The same in a sync body."""
    return _shout(label)


@tasks.task
async def fork(label: str) -> str:
    """Let a copy of the process run on."""
    who = _fork(label)
    await asyncio.sleep(0)
    return who


@tasks.task
async def fork_in_child_task(label: str) -> str:
    """The same in an asyncio task of the body's own."""
    return await asyncio.create_task(fork(label))


@tasks.task
def fork_in_thread(label: str) -> str:
    """The same in a sync body, of which the copy runs the rest too."""
    return _fork(label)


@tasks.task
def fork_and_fail(label: str) -> str:
    """The same, but the copy raises an error."""
    if _fork(label) == "copy":
        raise RuntimeError("in the copy")
    return "worker"


def _fork(label: str) -> str:
    pid = os.fork()
    Run(label)
    return "worker" if pid else "copy"


def _shout(label: str) -> str:
    for output in (sys.stdout, sys.stderr):
        output.write(f"{label}\n")
        output.flush()
    logging.getLogger(__name__).warning(label)
    get_task_logger(__name__).warning(label)
    return label
