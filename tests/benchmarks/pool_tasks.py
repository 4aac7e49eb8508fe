"""What the asyncio pool is measured with."""

import asyncio
import time

from service import TaskBlueprint

tasks = TaskBlueprint("bench")


@tasks.task
async def noop() -> int:
    return 1


@tasks.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@tasks.task
async def begun() -> float:
    return time.time()
