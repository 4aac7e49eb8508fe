"""The app of most tests of the dashboard and of the web side; some modules make their own."""

from collections.abc import AsyncIterator

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from service import create_app
from tests.support.site import TOKEN


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    """One that operators may sign in to."""
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> Client:
    """Without cookies: a test that signs in says so itself."""
    return app.test_client(use_cookies=False)
