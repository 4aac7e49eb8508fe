"""Where the Redis of the broker is, and how clients speak to it."""

import inspect
from typing import Any

import pytest
from redis.asyncio import Connection

from service.redis.clients import broker_redis_url, connect
from service.settings import read_settings
from service.settings.values import celery_environment

RESULTS = "redis://results/0"


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        ({}, "", RESULTS),
        ({"SERVICE_CELERY__BROKER_URL": "redis://broker/0"}, "", "redis://broker/0"),
        ({"SERVICE_CELERY__BROKER_URL": "amqp://broker"}, "", RESULTS),
        ({"SERVICE_CELERY__BROKER_URL": "redis://broker/0"}, "rediss://env/0", "rediss://env/0"),
    ],
)
def test_the_brokers_redis_is_where_celery_has_it(
    given: dict[str, str], variable: str, expected: str
) -> None:
    """Or that of the results, where the broker is no Redis."""
    environment = {"CELERY_BROKER_URL": variable}
    settings = read_settings(
        {}, {"SERVICE_REDIS_URL": RESULTS, **given}, celery_environment(environment)
    )
    assert broker_redis_url(settings) == expected


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "key"),
        ("CLIENT SETINFO", "LIB-NAME", "x"),
        ("SET", b"\xff\x00", "a line\r\n", "EX", 60, 1.5),
        ("SET", "ключ", memoryview(b"view"), b""),
        (b"MGET", "a", "b"),
    ],
)
def test_commands_go_out_as_redis_py_writes_them(command: tuple[Any, ...]) -> None:
    """Ours are written by hiredis, which redis-py's asyncio connections do not use for that."""
    for sender in (Connection.send_command, Connection.pack_commands):
        assert "self.pack_command(" in inspect.getsource(sender)
    pool: Any = connect(read_settings({}, {"SERVICE_REDIS_URL": RESULTS}, {})).connection_pool
    ours, theirs = pool.make_connection(), Connection()
    assert b"".join(ours.pack_command(*command)) == b"".join(theirs.pack_command(*command))
