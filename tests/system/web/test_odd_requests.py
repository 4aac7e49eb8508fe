"""What no browser sends, to a real server: each is answered, and the log has no traceback."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived

from tests.support.valkey import Valkey
from tests.support.web import Web


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web process of the module's own, which none of its tests has made stumble."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    with Valkey(folder) as valkey, Web(valkey.url) as web:
        web.wait_until_ready()
        yield web
        assert "Traceback" not in web.output


def ask(web: Web, request: bytes) -> bytes:
    """All that the server says to these bytes."""
    address = urlsplit(web.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    return answer


@pytest.mark.parametrize("host", ["a" * 64, ".", "a..b", "a.b..", "a@b", "["])
def test_an_odd_host_is_refused(web: Web, host: str) -> None:
    """Werkzeug fails on some of them before there is a handler of errors."""
    for target in ("/", "/result/none", "/static/css/base.css", "/nothing"):
        answer = ask(web, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer


@pytest.mark.parametrize("target", ["?", "?x=1", "http://localhost", "http://[", "localhost:80"])
def test_a_target_without_a_path_is_refused(web: Web, target: str) -> None:
    """It is one that Quart cannot read; an address with a path and `*` are good (RFC 9112, 3.2)."""
    template = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status = ask(web, template.format(target).encode()).split()[1]
    assert status in {b"400", b"404"}
    assert ask(web, template.format("http://localhost/tasks").encode()).split()[1] == b"200"
    assert ask(web, template.format("*").encode()).split()[1] == b"404"


def test_there_is_no_http_2_without_tls(web: Web) -> None:
    """A proxy that passes on an upgrade would see nothing of what is asked behind its back."""
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.get(f"{web.url}/tasks")
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 505)
    connection = H2Connection(H2Configuration(client_side=True))
    settings = connection.initiate_upgrade_connection()
    assert settings is not None
    address = urlsplit(web.url)
    with socket.create_connection((address.hostname or "", address.port or 80), 10) as client:
        client.sendall(
            b"GET /tasks HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n"
            b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: " + settings + b"\r\n\r\n"
        )
        answered = b""
        while b"\r\n\r\n" not in answered:
            answered += client.recv(65_536)
        client.sendall(connection.data_to_send())
        _, _, data = answered.partition(b"\r\n\r\n")
        events = connection.receive_data(data)
        while not (got := [each for each in events if isinstance(each, ResponseReceived)]):
            events = connection.receive_data(client.recv(65_536))
        assert dict(got[0].headers or ())[b":status"] == b"505"
