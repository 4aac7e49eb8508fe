"""An app of a user's own, with start-up and shutdown, as `celery -A` finds it."""

import asyncio
import os
from collections.abc import AsyncGenerator

from service import create_app, get_celery
from tests.support.sample_tasks import Registered, note

web = create_app({"TEST_FOR_APP_CONTEXT": "of the sample"})


@web.before_serving
async def begin() -> None:
    """Say that the app starts, or fail where the test wants that."""
    note(f"before_serving {os.getpid()}")
    if os.environ.get("SAMPLE_START_UP") == "fails":
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


@web.teardown_appcontext
async def teardown(error: BaseException | None) -> None:
    """Say which error the teardown functions were given."""
    if error is not None:
        note(f"teardown {type(error).__name__}")


app = get_celery(web)
app.register_task(Registered)
