"""One RabbitMQ server for all tests of a process; each test has a queue of its own there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from kombu import Connection
from quart import Quart

from service import create_app
from service.rabbitmq.connection import RabbitConnection
from service.rabbitmq.frames import OpenedSocket
from tests.support.process import Process
from tests.support.rabbitmq import frozen, rabbitmq
from tests.support.wait import wait_until


@dataclass
class Broker:
    """A server, and the name of a queue that nothing else uses."""

    process: Process
    url: str
    queue: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def with_channel(self, use: Callable[[Any], Any]) -> Any:
        """What `use` makes of a channel of py-amqp's."""
        with Connection(self.url) as connection:
            return use(connection.default_channel)

    async def connected(self) -> RabbitConnection:
        """A new connection of the service's own."""
        opened = await asyncio.to_thread(OpenedSocket.open, Connection(self.url))
        return RabbitConnection(opened, lambda: None)

    def frozen(self) -> AbstractContextManager[None]:
        """Have the server stand still, as it does with its machine."""
        return frozen(self.process)

    def take(self) -> Any:
        """The next message of the queue, as py-amqp has read it; Celery confirms none."""

        def get(channel: Any) -> Any:
            return wait_until(
                lambda: channel.basic_get(self.queue, no_ack=True), description="a message"
            )

        return self.with_channel(get)


Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Quart]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as (process, url):
        yield Broker(process, url)


@pytest.fixture
def broker(server: Broker) -> Broker:
    """The server, and the test's own queue."""
    return Broker(server.process, server.url, f"test-{uuid4()}")


@pytest.fixture
def serving(broker: Broker, redis_url: str) -> Serving:
    """Runs an app that enqueues there, in its context."""

    @asynccontextmanager
    async def serve(**settings: str) -> AsyncIterator[Quart]:
        base = {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "service.tasks.demo,tests.support.sample_tasks",
            "SERVICE_CELERY__BROKER_URL": broker.url,
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE": broker.queue,
        }
        app = create_app({**base, **settings})
        async with app.test_app(), app.app_context():
            yield app

    return serve
