"""An app of a user's own, with start-up and shutdown, as `celery -A` finds it."""

import asyncio
import os
from collections.abc import AsyncGenerator

from celery import signals

from service import create_app, get_celery
from tests.support.sample_tasks import Registered, note

web = create_app({"TEST_FOR_APP_CONTEXT": "of the sample"})


@web.before_serving
async def begin() -> None:
    """Say that the app starts, or fail where the test wants that."""
    note(f"before_serving {os.getpid()}")
    how = os.environ.get("SAMPLE_START_UP", "")
    if how == "fails late":
        await asyncio.sleep(2)  # until the worker waits for its children
    if how.startswith("fails"):
        raise RuntimeError("the sample's database is not there")


@web.while_serving
async def hold_resource() -> AsyncGenerator[None]:
    """Stand for a client that is opened at start-up and belongs to its event loop."""
    held = {"state": "open", "loop": asyncio.get_running_loop()}
    web.extensions["sample.resource"] = held
    yield
    held["state"] = "closed"


@web.after_serving
async def end() -> None:
    """Say that the app stops."""
    note(f"after_serving {os.getpid()}")


@signals.worker_process_init.connect(weak=False)
def begin_process(**_: object) -> None:
    """Stand for an agent that watches a process: it begins before the app does."""
    note(f"process_init {os.getpid()}")


@signals.worker_process_shutdown.connect(weak=False)
def end_process(**_: object) -> None:
    """And ends with it."""
    note(f"process_shutdown {os.getpid()}")


@web.teardown_appcontext
async def teardown(error: BaseException | None) -> None:
    """Say which error the teardown functions were given."""
    if error is not None:
        note(f"teardown {type(error).__name__}")


app = get_celery(web)
app.register_task(Registered)
