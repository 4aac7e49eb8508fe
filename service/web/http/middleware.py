"""Wraps the app where ASGI shows what Quart does not: raw headers, and the server's stopping."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Quart

from service.parts import parts_of
from service.web.http.problems import ProblemView

_DETAIL: Final = "A request has either Content-Length or Transfer-Encoding, not both."
_BODY: Final = msgspec.json.encode(ProblemView.of(HTTPStatus.BAD_REQUEST, _DETAIL))
_HEADERS: Final = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"cache-control", b"no-store"),
    (b"connection", b"close"),
]


class Middleware:
    """Refuses WebSockets and requests with two lengths, and calls `on_stop` when the server stops.

    Hypercorn takes Content-Length beside Transfer-Encoding. A proxy in front that believes the
    other one of the two would let a second request be smuggled in (RFC 9112, 6.1).
    """

    def __init__(self, asgi_app: Callable[..., Any], on_stop: Callable[[], None]) -> None:
        self._asgi_app = asgi_app
        self._on_stop = on_stop
        self._waiting: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "http":
            if self._waiting is None:
                self._wait_for_stop(send)
            names = [name for name, _ in scope["headers"]]
            if b"transfer-encoding" in names and b"content-length" in names:
                start = {"status": HTTPStatus.BAD_REQUEST.value, "headers": _HEADERS}
                await send({"type": "http.response.start", **start})
                await send({"type": "http.response.body", "body": _BODY})
                return
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it was accepted: a 403
            return
        await self._asgi_app(scope, receive, send)

    async def close(self) -> None:
        """Stop waiting for the server."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _wait_for_stop(self, send: Any) -> None:
        """Wait for Hypercorn's own event; with another server streams end when that cuts them.

        Hypercorn tells an app that it stops only when all connections are done. Streams would
        never be done, and be cut after `graceful_timeout`. The event is reachable from `send`.
        """
        context = getattr(getattr(send, "__self__", None), "context", None)
        terminated = getattr(context, "terminated", None)
        if terminated is not None:
            self._waiting = asyncio.create_task(terminated.wait())
            self._waiting.add_done_callback(lambda _: self._on_stop())


def init_middleware(app: Quart) -> None:
    """Put the middleware before the app."""
    middleware = Middleware(app.asgi_app, on_stop=parts_of(app).watcher.stop)
    app.asgi_app = middleware  # type: ignore[method-assign]  # as Quart's documentation has it
    app.after_serving(middleware.close)
