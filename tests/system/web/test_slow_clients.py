"""Clients that send or read nothing, or very much: what they can hold is bounded, and ends."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis

from tests.support.records import publish
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.web import Web

FULL = 40  # events of 500 KB, more than all buffers between the web process and a client hold


@pytest.fixture(scope="module")
def valkey_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    folder: Path = tmp_path_factory.mktemp("valkey")
    with Valkey(folder) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def web(valkey_here: Valkey) -> Iterator[Web]:
    settings = {
        "SERVICE_BODY_TIMEOUT": "2",
        "SERVICE_WRITE_TIMEOUT": "2",
        "SERVICE_LIMITS": "bodies=3",
    }
    with Web(valkey_here.url, **settings) as web:
        web.wait_until_ready()
        yield web


@pytest.fixture(scope="module")
def patient_web(valkey_here: Valkey) -> Iterator[Web]:
    """One that itself ends, and asks, nothing for a minute."""
    with Web(valkey_here.url, SERVICE_HEARTBEAT="60", SERVICE_WRITE_TIMEOUT="60") as web:
        web.wait_until_ready()
        yield web


def connect(web: Web, request: str) -> socket.socket:
    """A client that has sent this, and has read nothing."""
    address = urlsplit(web.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect((address.hostname, address.port))
    client.sendall(request.encode())
    return client


def head(client: socket.socket) -> str:
    """The first line of the answer."""
    with client.makefile() as lines:
        return lines.readline()


def test_a_body_that_does_not_come_is_not_waited_for_long(web: Web) -> None:
    """A 408; of one caller only so many are waited for at all."""
    request = (
        "POST /tasks/demo.my_add HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 9000\r\n\r\n{"
    )
    clients = [connect(web, request) for _ in range(6)]
    codes = sorted(head(client).split()[1] for client in clients)
    for client in clients:
        client.close()
    assert codes == ["408"] * 3 + ["429"] * 3
    answer = httpx.post(f"{web.url}/tasks/demo.my_add", json={"a": 1, "b": 2})
    assert answer.status_code == 202


def test_a_long_accept_is_passed_over(web: Web) -> None:
    """Else it would be parsed, and sorted, for each question about it."""
    accept = "text/html," + ",".join(f"a/b{number};q=0.1" for number in range(500))
    answer = httpx.get(f"{web.url}/result/none", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/problem+json"


def publish_much(redis: Redis) -> None:
    """More than a client is sent that does not read."""
    for number in range(FULL):
        note = f"{number} " + "x" * 500_000
        publish(redis, "one", "PROGRESS", result={"current": 1, "total": 2, "note": note})


@pytest.mark.parametrize("path", ["/result/one/events", "/jobs?id=one"])
def test_a_client_that_does_not_read_is_cut_off(web: Web, valkey_here: Valkey, path: str) -> None:
    """Each would hold what it has not read, and the changes that are to follow."""
    with valkey_here.client() as redis:
        publish(redis, "one", "STARTED")
        stream = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        client = connect(web, stream)
        wait_until(lambda: bool(redis.pubsub_channels()), description="the job is followed")
        publish_much(redis)
        wait_until(
            lambda: not redis.pubsub_channels(), timeout=30, description="the client is cut off"
        )
    client.close()


@pytest.mark.parametrize("path", ["/result/one/events", "/jobs?id=one"])
@pytest.mark.parametrize("client", ["reads", "does not read", "asks for more"])
def test_no_events_are_made_for_a_client_that_has_reset_its_connection(
    patient_web: Web, valkey_here: Valkey, path: str, client: str
) -> None:
    """Neither while nothing happens to its jobs, nor while something waits to be sent to it.

    While it asks for more Hypercorn does not look at the connection: then the next event ends it.
    """
    with valkey_here.client() as redis:
        publish(redis, "one", "STARTED")
        stream = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        connection = connect(patient_web, stream * (2 if client == "asks for more" else 1))
        wait_until(lambda: bool(redis.pubsub_channels()), description="the job is followed")
        if client == "does not read":
            publish_much(redis)
            wait_until(
                lambda: len(connection.recv(10_000, socket.MSG_PEEK)) > 1000,
                description="what it could take is there",
            )
        else:
            with connection.makefile() as lines:
                assert any("STARTED" in line for line in lines)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # by a reset
        if client == "asks for more":
            publish(redis, "one", "RETRY")
        wait_until(lambda: not redis.pubsub_channels(), description="nobody follows the job")
