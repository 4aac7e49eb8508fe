"""Stands before the app, where what the server says of a connection can be seen."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from quart import Quart

from service.parts import parts_of
from service.web.http.streams import get_stopping, init_stopping

_DETAIL: Final = "A request has either Content-Length or Transfer-Encoding, not both."


class Gateway:
    """Refuses what the app is not for, and learns when the server stops.

    That is WebSockets, and requests whose length can be read in two ways:
    Hypercorn takes Content-Length beside Transfer-Encoding; a proxy in front that believes the
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
                await _refuse(send)
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
        """Hypercorn tells an app of its stopping only when all connections are done.

        Streams would never be, and be cut after `graceful_timeout`. Its own event is reachable
        from the callable that it gives us; with another server streams end as that has it.
        """
        context = getattr(getattr(send, "__self__", None), "context", None)
        terminated = getattr(context, "terminated", None)
        if terminated is not None:
            self._waiting = asyncio.create_task(self._tell_of(terminated))

    async def _tell_of(self, terminated: Any) -> None:
        await terminated.wait()
        self._on_stop()


async def _refuse(send: Any) -> None:
    status = HTTPStatus.BAD_REQUEST
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": _DETAIL,
    }
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def init_gateway(app: Quart) -> None:
    """Put the gateway before the app."""
    init_stopping(app)

    def on_stop() -> None:
        get_stopping(app).set()
        parts_of(app).watcher.stop()

    gateway = Gateway(app.asgi_app, on_stop=on_stop)
    app.asgi_app = gateway  # type: ignore[method-assign]  # as Quart's documentation has it
    app.after_serving(gateway.close)
