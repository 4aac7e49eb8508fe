"""The app for tests that are about operators; some modules of this folder make their own."""

from collections.abc import AsyncIterator, Iterator

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client
from redis import Redis

from service import create_app
from tests.support.site import TOKEN


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client(use_cookies=False)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        yield redis
