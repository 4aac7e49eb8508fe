"""When Redis is away the web side says so at once, and is well again by itself."""

import re
import resource
import socket
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.web import Web


@pytest.fixture
def web(own_valkey: Valkey) -> Iterator[Web]:
    with Web(own_valkey.url) as web:
        web.wait_until_ready()
        yield web


@pytest.fixture
def client(web: Web) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web.url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("fault", ["refuses", "is silent"])
def test_redis_away_is_a_503_within_3_s_and_passes_by_itself(
    own_valkey: Valkey, web: Web, client: httpx.Client, fault: str
) -> None:
    """And requests that need no Redis do not notice. Why it is away is for the log alone.

    By the best of a few, as the machine may do much else.
    """
    known = client.get("/").json()["result_url"]
    if fault == "refuses":
        own_valkey.stop()
    else:
        own_valkey.freeze()
    for path in ("/", known):
        took: list[float] = []
        while not took or (took[-1] > 3 and len(took) < 5):
            asked = time.monotonic()
            response = client.get(path)
            took.append(time.monotonic() - asked)
        assert min(took) < 3, took
        assert response.status_code == 503
        assert response.headers["Content-Type"] == "application/problem+json"
        assert int(response.headers["Retry-After"]) > 0
        assert response.json()["detail"].startswith("Redis is not available.")
        assert str(own_valkey.port) not in response.text
    told = re.findall("503: Redis is not available: .*", web.output)
    assert len(told) >= 2
    assert not any(line.endswith("..") for line in told)
    assert client.get("/static/css/base.css").status_code == 200
    if fault == "refuses":
        own_valkey.start()
    else:
        own_valkey.thaw()
    wait_until(lambda: client.get(known).status_code == 200, description="the result is served")
    assert client.get("/").status_code == 200


def test_other_requests_go_on_while_redis_is_silent(own_valkey: Valkey, web: Web) -> None:
    """One that waits for Redis must not stop the event loop for the rest."""
    own_valkey.freeze()
    address = urlsplit(web.url)
    with (
        httpx.Client(base_url=web.url, timeout=10) as client,
        socket.create_connection((address.hostname or "", address.port or 0)) as waiting,
    ):
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):  # while it is answered only when Redis has been waited for
            assert client.get("/static/css/base.css").status_code == 200
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)
    own_valkey.thaw()


@pytest.mark.skipif(sys.platform != "linux", reason="it changes the limit of another process")
def test_descriptors_that_run_out_are_told_of_and_waited_for(
    own_valkey: Valkey, web: Web, client: httpx.Client
) -> None:
    """asyncio logged a thousand tracebacks a second; who is connected is answered."""
    assert client.get("/readyz").status_code == 200
    pid = int(web.wait_for_output(r"\[(\d+)\] \[INFO\] Running on")[1])
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with own_valkey.client() as redis:
        redis.client_kill_filter(skipme=True)
    response = client.get("/")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    web.wait_for_output("Too many open files")
    address = urlsplit(web.url)
    with socket.create_connection((address.hostname, address.port), timeout=45) as waiting:
        waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        web.wait_for_output("No connection can be accepted: .*Too many open files")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert waiting.recv(12) == b"HTTP/1.1 200"
    assert "out of system resource" not in web.output
    assert client.get("/").status_code == 200
