"""An app of the test's own beside a worker, to enqueue with and to read results."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from quart import Quart

from service import create_app, get_celery
from tests.support.wait import wait_until_async
from tests.support.workers import Worker

# How long Redis may take where it is well. The default is for users who wait for an answer; on a
# busy machine that is no fault.
PATIENT: Final = {"SERVICE_REDIS_TIMEOUT": "20", "SERVICE_ENQUEUE_TIMEOUT": "20"}


@asynccontextmanager
async def serving_app(worker: Worker, modules: str, **settings: str) -> AsyncIterator[Quart]:
    """An app like the web side's for the worker's Redis; its context is that of the block."""
    base = {"SERVICE_REDIS_URL": worker.redis_url, "SERVICE_TASK_MODULES": modules}
    app = create_app({**base, **PATIENT, **settings})
    async with app.test_app(), app.app_context():
        yield app


async def inspect(app: Quart, what: str) -> Any:
    """What the only worker answers to a question of Celery's remote control."""
    ask = getattr(get_celery(app).control.inspect(timeout=1), what)
    # Again and again: a worker says that it is ready a moment before it listens to broadcasts.
    replies = await wait_until_async(
        lambda: asyncio.to_thread(ask), description=f"a reply to inspect {what}"
    )
    return next(iter(replies.values()))
