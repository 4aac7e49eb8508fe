"""How a connection is lost, on asyncio's own loop and on uvloop, which words it its own way."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from service.redis.clients import connect
from service.redis.script import Script, ScriptConnection
from service.settings import read_settings
from service.worker.results.reader import RecordReader
from tests.support.tls import TlsFront, make_certificate
from tests.support.valkey import Valkey

Loop = Callable[[], asyncio.AbstractEventLoop]


def _run(loop: Loop, coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(coroutine)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_dropped_leaves_no_socket(
    valkey: Valkey, tmp_path: Path, loop: Loop
) -> None:
    """Whoever ends its loop then has nobody who could close it. TLS would wait for an answer."""
    certificate, key = make_certificate(tmp_path)

    async def use(port: int) -> None:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
        client = connect(read_settings({}, {"SERVICE_REDIS_URL": url}))
        pool: Any = client.connection_pool
        connection = await pool.get_connection()
        socket = connection._writer.transport.get_extra_info("socket")
        assert socket.fileno() > 0
        await connection.disconnect(nowait=True)
        for _ in range(3):  # turns of the loop, in none of which anything is waited for
            await asyncio.sleep(0)
        assert socket.fileno() == -1
        await pool.release(connection)
        await client.aclose()

    with TlsFront(valkey.port, certificate, key) as front:
        _run(loop, use(front.port))


async def _ping(connection: Any) -> None:
    await connection.send_command("PING", check_health=False)
    await connection.read_response()


async def _lose(connection: Any) -> None:
    """Close the transport under the connection, which has not been told yet."""
    connection._writer.transport.abort()
    await asyncio.sleep(0)  # the turn of the loop in which uvloop closes it


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_command_on_a_lost_connection_is_redis_pys_own_error(valkey: Valkey, loop: Loop) -> None:
    """All that waits for Redis knows what to do about that one, and about no RuntimeError."""

    async def use() -> None:
        client = connect(read_settings({}, {"SERVICE_REDIS_URL": valkey.url}))
        pool: Any = client.connection_pool
        connection = await pool.get_connection()
        await _lose(connection)
        try:
            with pytest.raises(RedisConnectionError):
                await _ping(connection)
        finally:
            await pool.release(connection)
            await client.aclose()

    _run(loop, use())


def test_a_job_that_asks_for_its_record_is_answered_after_a_loss(valkey: Valkey) -> None:
    """It waited, and was held, for ever."""

    async def use() -> None:
        client = connect(read_settings({}, {"SERVICE_REDIS_URL": valkey.url}))
        reader = RecordReader(client, timeout=5.0)
        try:
            assert await reader.read(b"nothing") is None
            connection: Any = reader._connection._connection
            # What is looked at first, the server's word, comes after the command has begun.
            connection.can_read = _nothing
            await _lose(connection)
            async with asyncio.timeout(30):
                assert await reader.read(b"nothing") is None
        finally:
            await reader.close()

    _run(uvloop.new_event_loop, use())


async def _nothing(*_: object, **__: object) -> bool:
    return False


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_the_server_has_just_closed_is_no_outage(
    valkey: Valkey, loop: Loop
) -> None:
    """Servers close what is idle. The loop may not know of it yet: each pause was an outage."""

    async def use() -> None:
        client = connect(read_settings({}, {"SERVICE_REDIS_URL": valkey.url}))
        script = Script.load("service.worker.results", "store")
        connection = ScriptConnection(client, timeout=5)
        for _ in range(3):
            assert await connection.run(script, ["celery-task-meta-idle"], ["{}", 5]) == [1]
            assert await client.get("celery-task-meta-idle") == b"{}"
            with valkey.client() as other:  # blocks the loop, which thus learns nothing of it
                other.client_kill_filter(_type="normal", skipme=True)
        await connection.disconnect()
        await client.aclose()

    _run(loop, use())
