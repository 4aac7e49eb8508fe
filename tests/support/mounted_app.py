"""The worker's side of a host that is no Quart app, whose tasks need something of a lifespan."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quart import Quart, current_app

from service import Jobs, TaskBlueprint, get_celery
from tests.support.sample_tasks import note

tasks = TaskBlueprint("mounted")


@asynccontextmanager
async def resources(app: Quart) -> AsyncIterator[None]:
    """Stand for a client that belongs to its event loop."""
    note(f"entered {os.getpid()}")
    app.extensions["mounted.loop"] = asyncio.get_running_loop()
    yield
    note(f"left {os.getpid()}")


@tasks.task
async def is_on_the_same_loop() -> bool:
    """Whether a body can use what the lifespan opened."""
    return current_app.extensions["mounted.loop"] is asyncio.get_running_loop()


jobs = Jobs(tasks=[tasks], worker_lifespan=resources)
app = get_celery(jobs.app)
