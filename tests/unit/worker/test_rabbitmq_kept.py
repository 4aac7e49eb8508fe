"""Which servers close the channel of whoever has a job for long; copies wait for Redis."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from service.jobs.celery.connections import COPY
from service.worker.rabbitmq.kept import Copies, has_one_timeout
from tests.support.wait import wait_until


@pytest.mark.parametrize(
    ("properties", "has"),
    [
        ({"version": "3.10.8"}, True),
        ({"version": "3.11.28"}, True),
        ({"version": "3.12.0"}, False),
        ({"version": "4.2.1"}, False),
        ({"version": "4.3.0-rc.1"}, False),
        ({"version": "unknown"}, False),
        ({}, False),
    ],
)
def test_servers_before_3_12_have_one_timeout_for_all(
    properties: dict[str, Any], has: bool
) -> None:
    """Later ones take it from each consumer."""
    assert has_one_timeout(SimpleNamespace(server_properties=properties)) is has


class Looks:
    """Stands for the kept jobs, and for the timer."""

    def __init__(self) -> None:
        self.is_redis_away = False
        self.asked = 0
        self.next: Callable[[], None] = lambda: None

    def is_kept(self, _: str) -> bool:
        self.asked += 1
        if self.is_redis_away:
            raise TimeoutError
        return False

    def look(self) -> int:
        """Have the timer call; how often Redis was asked by then, as copies are looked at late."""
        self.next()
        return self.asked

    def call_after(self, _: float, look: Callable[[], None]) -> None:
        self.next = look


def test_copies_ask_a_redis_that_does_not_answer_once_for_all() -> None:
    """The consumer's thread waits meanwhile. Those without an id, of Celery's protocol 1, go on."""
    looks, handled = Looks(), list[Any]()
    copies = Copies(Any, looks, looks.call_after)  # type: ignore[arg-type]  # no Celery app
    messages = [SimpleNamespace(headers={COPY: True}, delivery_info={}) for _ in range(3)]
    for message in messages:
        copies.handle(message, handled.append)
    looks.is_redis_away = True
    assert wait_until(looks.look, description="the first is looked at") == 1
    assert not handled
    looks.is_redis_away = False
    wait_until(lambda: looks.look() and handled == messages, description="all are handled")
