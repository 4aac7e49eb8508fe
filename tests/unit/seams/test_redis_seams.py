"""Pins what the package leans on in redis-py and hiredis without their promising it."""

import inspect
from typing import Any

import pytest
from hiredis import pack_command
from redis import _parsers as parsers
from redis import connection as blocking
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio import client as asyncio_client
from redis.asyncio import connection as asyncio_connection
from redis.asyncio import sentinel as asyncio_sentinel
from redis.exceptions import AskError, MovedError
from redis.sentinel import SentinelConnectionPool


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_a_connection_has_these_calls() -> None:
    """redis/script.py and results/feed.py speak on a connection without a client.

    If one is gone, look at what `redis.asyncio.Redis.execute_command` does with a connection now.
    """
    for name in ("connect", "can_read", "pack_commands", "pack_command", "is_connected"):
        assert hasattr(Connection, name)
    assert parameters(Connection.send_command) == ["self", "args", "kwargs"]
    assert parameters(Connection.send_packed_command)[1:] == ["command", "check_health"]
    assert "check_health" in inspect.getsource(Connection.send_command)
    assert "nowait" in parameters(Connection.disconnect)
    assert "push_request" in parameters(Connection.read_response)


def test_a_pool_makes_connections_of_its_class_with_its_options() -> None:
    """redis/clients.py sets `connection_class`, redis/script.py calls it itself.

    If a pool makes them otherwise, connections are not ours: see what `_OurConnection` mends.
    """
    source = inspect.getsource(asyncio_connection.ConnectionPool.make_connection)
    assert "self.connection_class(**self.connection_kwargs)" in source
    assert BlockingConnectionPool().connection_class is Connection
    pool = BlockingConnectionPool.from_url("rediss://localhost")
    assert pool.connection_class is SSLConnection


def test_a_connections_writer_can_be_aborted() -> None:
    """redis/clients.py does that where it may not wait: otherwise a silent server keeps a socket.

    If it has another name, `disconnect(nowait=True)` of `_OurConnection` only pretends.
    """
    assert Connection()._writer is None
    assert "self._writer" in inspect.getsource(Connection.disconnect)
    assert "self._writer" in inspect.getsource(Connection._connect)


def test_hiredis_packs_as_redis_py_does() -> None:
    """redis/clients.py packs with it; a command that it refuses goes the old way.

    If they differ, `pack_command` of `_OurConnection` is to go.
    """
    command: tuple[Any, ...] = ("SET", b"\xff\x00", "ä\r\n", "EX", 60, 1.5)
    packer: Any = blocking.PythonRespSerializer(6000, Connection().encoder.encode)
    assert pack_command(command) == b"".join(packer.pack(*command))
    unknown: Any = ("SET", "key", object())
    with pytest.raises(TypeError):
        pack_command(unknown)


def test_pushes_are_handed_to_a_handler_of_the_parser() -> None:
    """results/feed.py tells changes from answers by it.

    If redis-py's own PubSub does it otherwise, do as it does: else changes pass for answers.
    """
    set_handler = "self.connection._parser.set_pubsub_push_handler(self.push_handler_func)"
    assert set_handler in inspect.getsource(asyncio_client.PubSub)
    for parser in (parsers._AsyncRESP3Parser, parsers._AsyncHiredisParser):
        assert hasattr(parser, "set_pubsub_push_handler")


def test_a_blocking_connection_has_its_socket_and_reads_pushes() -> None:
    """broker/transport/waiter.py compares sockets to see a reconnection, and reads what is pushed.

    If it is not seen, a new connection is not told of changes: a worker that only asks.
    """
    connection = blocking.AbstractConnection
    assert "self._sock = sock" in inspect.getsource(connection.connect_check_health)
    assert "push_request" in parameters(connection.read_response)
    assert parameters(connection.can_read)[1:] == ["timeout"]


def test_a_pool_of_sentinels_takes_its_class_and_keeps_its_manager() -> None:
    """redis/clients.py closes the sentinels' connections along with the server's.

    If the manager has another name, these stay open when an app stops.
    """
    for pool in (asyncio_sentinel.SentinelConnectionPool, SentinelConnectionPool):
        assert "self.sentinel_manager = sentinel_manager" in inspect.getsource(pool.__init__)
        assert parameters(pool.disconnect)[:2] == ["self", "inuse_connections"]
    assert "self.sentinels = [" in inspect.getsource(asyncio_sentinel.Sentinel.__init__)


@pytest.mark.parametrize("kind", [Connection, blocking.Connection])
def test_a_connection_asks_its_node_before_anything_else(kind: Any) -> None:
    """redis/cluster.py finds the node of a hash slot in these two methods.

    If a connection is made without them, it stays at a node that may not have the keys: find what
    `connect` calls now.
    """
    assert "self.connect_check_health(" in inspect.getsource(kind.connect)
    source = inspect.getsource(kind.connect_check_health)
    assert source.index("self.on_connect_check_health(") < source.index("_connect_callbacks")
    assert "self.disconnect()\n" in source
    assert parameters(kind.connect_check_health)[1:] == ["check_health", "retry_socket_connect"]
    assert parameters(kind.on_connect_check_health)[1:] == ["check_health"]
    connection = kind()
    connection.host, connection.port = "a", 1
    assert (connection.host, connection.port) == ("a", 1)


def test_an_answer_of_a_cluster_is_an_error_that_says_where_to_go() -> None:
    """redis/cluster.py goes by the classes, and by host and port.

    If they are others, a connection that meets the wrong node fails: see `EXCEPTION_CLASSES`.
    """
    classes = parsers.base.BaseParser.EXCEPTION_CLASSES
    assert {"MOVED", "ASK", "CLUSTERDOWN", "READONLY"} <= set(classes)
    parse: Any = parsers.base.BaseParser.parse_error
    moved = parse("MOVED 3808 127.0.0.1:6380")
    assert isinstance(moved, MovedError)
    assert isinstance(moved, AskError)
    assert (moved.host, moved.port) == ("127.0.0.1", 6380)
