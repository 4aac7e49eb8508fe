"""Tasks to try the service with."""

import asyncio
import logging
from typing import Annotated

from msgspec import Meta
from quart import current_app

from service.jobs import TaskBlueprint, report_progress

logger = logging.getLogger(__name__)

tasks = TaskBlueprint("demo")


@tasks.task(public=True, show_arguments=True)
async def my_add(a: int, b: int) -> int:
    """Add two numbers, and show that the app's configuration is at hand."""
    total = a + b
    logger.info("%s + %s = %s", a, b, total)
    logger.info("TEST_FOR_APP_CONTEXT is %r", current_app.config["TEST_FOR_APP_CONTEXT"])
    return total


@tasks.task(public=True, show_arguments=True)
async def count_slowly(
    steps: Annotated[int, Meta(ge=0, le=1000)] = 5, pause: Annotated[float, Meta(ge=0, le=60)] = 1.0
) -> int:
    """Count the steps, with `pause` seconds before each, and report each."""
    for step in range(steps):
        report_progress(step, steps, f"step {step + 1} of {steps}")
        await asyncio.sleep(pause)
    report_progress(steps, steps, "done")
    return steps


@tasks.task(public=True, show_arguments=True)
def find_primes(limit: Annotated[int, Meta(ge=0, le=10_000_000)] = 100_000) -> int:
    """Count the primes below `limit`: plain synchronous work that keeps a processor busy."""
    sieve = bytearray([1]) * max(limit, 2)
    sieve[0:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve[:limit])


@tasks.task(public=True, show_arguments=True)
async def fail(message: str = "this task always fails") -> None:
    """Fail, to show what a failure looks like."""
    raise RuntimeError(message)
