"""Tasks that end in other ways than well, with much in memory; loaded by SERVICE_TASK_MODULES."""

import asyncio
from typing import Any

from service import TaskBlueprint

tasks = TaskBlueprint("failing")


@tasks.task
async def fail(size: int) -> None:
    """Fail with so many bytes in a local variable."""
    held = bytearray(size)
    await asyncio.sleep(0)
    raise ValueError(len(held))


@tasks.task
def fail_in_thread(size: int) -> None:
    """The same in a thread."""
    held = bytearray(size)
    raise ValueError(len(held))


@tasks.task(bind=True, max_retries=1, default_retry_delay=0)
async def retry(self: Any, size: int) -> None:
    """Be retried once, then end well."""
    held = bytearray(size)
    await asyncio.sleep(0)
    if not self.request.retries:
        raise self.retry(exc=ValueError(len(held)))


@tasks.task
async def hold_own_error(size: int) -> None:
    """Fail with an error that a local variable holds: a cycle of the body's own."""
    held = bytearray(size)
    error = ValueError(len(held))
    await asyncio.sleep(0)
    raise error


@tasks.task(soft_time_limit=1)
async def be_cancelled(size: int) -> None:
    """Cancel itself."""
    held = bytearray(size)
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
    await asyncio.sleep(300)
    assert held
