"""The log of a real web process."""

import json
import socket
from urllib.parse import urlsplit

from tests.support.valkey import Valkey
from tests.support.web import Web

FORGED = "/%0A[2026-01-01]%20all%20is%20lost%1B[31m"


def test_a_log_of_json_has_one_object_on_each_line(valkey: Valkey) -> None:
    """Hypercorn's own included; whatever a client sends."""
    options = ("--access-logfile", "-", "--workers", "0")
    with Web(valkey.url, "asgi:app", *options, SERVICE_LOG="json") as web:
        web.wait_until_ready()
        address = urlsplit(web.url)
        with socket.create_connection((address.hostname or "", address.port or 0)) as client:
            client.sendall(
                f"GET {FORGED} HTTP/1.1\r\nHost: x\r\nUser-Agent: \x9b31m\r\n"
                "Connection: close\r\n\r\n".encode("latin-1")
            )
            while client.recv(65536):
                pass
        web.wait_for_output("hypercorn.access")
        web.stop()
        lines = [json.loads(line) for line in web.output.splitlines()]
        assert {"hypercorn.error", "hypercorn.access"} <= {line["logger"] for line in lines}
        (access,) = (line for line in lines if line["logger"] == "hypercorn.access")
        assert "all is lost" in access["message"]
        assert {"\x1b", "\x9b"}.isdisjoint(web.output)
