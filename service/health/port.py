"""Answers a worker's probes over HTTP on a port of its own, from threads."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

Gaps = Callable[[], list[str]]

_TIMEOUT: Final = 5.0  # seconds that a client may be silent
_POLL: Final = 0.2  # seconds until `close` is noticed


class ProbePort:
    """A port with some addresses, each with what finds out what is missing; 200 if nothing is."""

    def __init__(self, host: str, port: int, probes: Mapping[str, tuple[str, Gaps]]) -> None:
        """Serve from now on. `probes` have by their path a word for it, such as `healthy`.

        Raises OSError where another process has the port.
        """
        self._server = _Server((host, port), _Handler)
        self._server.probes = probes
        self._thread = Thread(target=self._server.serve_forever, args=(_POLL,), name="health-port")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    probes: Mapping[str, tuple[str, Gaps]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that went away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT
    server_version, sys_version = "jobs", ""

    def do_GET(self) -> None:
        """Answer as the web side's probes do."""
        server: Any = self.server
        word, gaps_of = server.probes.get(self.path.partition("?")[0], ("", None))
        if gaps_of is None:
            self._answer(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
        elif gaps := gaps_of():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, " ".join(gaps))
        else:
            self._send(HTTPStatus.OK, "application/json", {"status": word})

    do_HEAD = do_GET  # noqa: N815  as http.server calls it

    def _answer(self, status: HTTPStatus, detail: str) -> None:
        problem = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
        }
        self._send(status, "application/problem+json", problem)

    def _send(self, status: HTTPStatus, kind: str, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: a line for each probe would hide the others."""
