"""One RabbitMQ server for the tests of this folder; each test has queues of its own there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from tests.support.process import Process
from tests.support.rabbitmq import frozen, rabbitmq


@dataclass
class Broker:
    """A server, and the settings of an app that has queues of its own there."""

    process: Process
    url: str
    queue: str = field(default_factory=lambda: f"test-{uuid4()}")

    def frozen(self) -> AbstractContextManager[None]:
        """Have the server stand still, as it does with its machine."""
        return frozen(self.process)

    @property
    def settings(self) -> dict[str, str]:
        """For the environment of a worker, and for an app."""
        return {
            "SERVICE_CELERY__BROKER_URL": self.url,
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE": self.queue,
        }


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str]]:
    """Its process and its address."""
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture
def rabbitmq_url(server: tuple[Process, str]) -> str:
    """The address of the server."""
    return server[1]


@pytest.fixture
def broker(server: tuple[Process, str]) -> Broker:
    """The server, and the test's own queues."""
    return Broker(*server)
