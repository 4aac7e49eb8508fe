"""One RabbitMQ server for the tests of this folder; each test has queues of its own there."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from tests.support.rabbitmq import rabbitmq


@dataclass
class Broker:
    """A server, and the settings of an app that has queues of its own there."""

    url: str
    queue: str = field(default_factory=lambda: f"test-{uuid4()}")

    @property
    def settings(self) -> dict[str, str]:
        """For the environment of a worker, and for an app."""
        return {
            "SERVICE_CELERY__BROKER_URL": self.url,
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE": self.queue,
        }


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server."""
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as (_, url):
        yield url


@pytest.fixture
def broker(rabbitmq_url: str) -> Broker:
    """The server, and the test's own queues."""
    return Broker(rabbitmq_url)
