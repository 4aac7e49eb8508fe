"""Wraps the app where ASGI shows what Quart does not: raw headers, and the server's stopping."""

import asyncio
import gc
import logging
from collections.abc import Callable, Container
from contextvars import Token
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from quart import Quart
from werkzeug.exceptions import HTTPException

from service.logs.ids import given_request_id, new_request_id, request_id, request_id_here
from service.parts import parts_of
from service.web.asgi.connection import keep_send
from service.web.asgi.hosts import TrustedHosts, host_of, is_odd
from service.web.asgi.problem import RefusedError, answer_problem
from service.web.asgi.proxies import TrustedProxies

logger: Final = logging.getLogger(__name__)

_PLAIN_HTTP_2: Final = "HTTP/2 is served over TLS alone."
_NO_PATH: Final = "The target of this request has no path."
_TWO_LENGTHS: Final = "A request has either Content-Length or Transfer-Encoding, not both."


class Middleware:
    """Calls `on_stop` when the server stops, and gives the app each request as its client sent it.

    It refuses what nothing here wants: WebSockets, requests with two lengths, and HTTP/2 without
    TLS. Hypercorn takes Content-Length beside Transfer-Encoding. A proxy in front that believes the
    other one of the two would let a second request be smuggled in (RFC 9112, 6.1); and one that
    passes on an upgrade to HTTP/2 sees nothing of the requests that follow. In a host's app only
    requests to our endpoints are checked; the rest is up to the host.
    """

    def __init__(
        self,
        app: Quart,
        name: str,
        on_stop: Callable[[], None],
        *,
        whole_app: bool,
        for_any_host: Container[str],
    ) -> None:
        """Wrap all of the app, or of its endpoints those whose names begin with `name`.

        The addresses `for_any_host` are served under every name.
        """
        self._app = app
        self._name = name
        self._asgi_app: Callable[..., Any] = app.asgi_app
        self._on_stop = on_stop
        self._whole_app = whole_app
        self._for_any_host = for_any_host
        settings = parts_of(app).settings
        names = settings.trusted_proxies
        self._proxies = TrustedProxies(names) if names else None
        self._hosts = TrustedHosts(settings.trusted_hosts)
        self._waiting: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "http":
            token = self._name_request(scope)
            if self._waiting is None:
                self._wait_for_stop(send)
            try:
                scope = self._checked(scope)
                keep_send(scope, send)
                await self._asgi_app(scope, receive, send)
            except RefusedError as error:
                logger.warning("Refused a request: %s", error)
                await answer_problem(error.problem, scope, send)
            finally:
                request_id.reset(token)
            return
        if self._whole_app and scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it was accepted: a 403
            return
        if self._whole_app and scope["type"] == "lifespan":
            send = partial(_tell_of_lifespan, send)
        await self._asgi_app(scope, receive, send)

    def _name_request(self, scope: Any) -> Token[str | None]:
        """Set the id of the request for its time: the host's, the one that it has, or a new one.

        In a host's app only requests to our endpoints get a new one, by `security`.
        """
        if request_id_here() is not None:
            return request_id.set(request_id.get())
        made = new_request_id() if self._whole_app else None
        return request_id.set(given_request_id(scope["headers"]) or made)

    async def close(self) -> None:
        """Stop waiting for the server."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None  # the app can be started anew

    def _checked(self, scope: Any) -> Any:
        """The request as the app is to see it. Raises RefusedError."""
        if not self._whole_app and not (self._asks(scope) and self._is_ours(scope)):
            return scope
        if _is_plain_http_2(scope):
            raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, _PLAIN_HTTP_2)
        if self._whole_app:
            if not scope["path"].startswith("/") and not _has_path(scope["path"]):
                raise RefusedError(HTTPStatus.BAD_REQUEST, _NO_PATH)
            names = [name for name, _ in scope["headers"]]
            if b"transfer-encoding" in names and b"content-length" in names:
                raise RefusedError(HTTPStatus.BAD_REQUEST, _TWO_LENGTHS)
        if self._proxies is not None:
            scope = self._proxies.seen_through(scope)
        self._hosts.check(scope, any_name=_path_in_app(scope) in self._for_any_host)
        return scope

    def _asks(self, scope: Any) -> bool:
        """Whether there is anything to find out of a request in a host's app."""
        if self._proxies is not None or not self._hosts.any:
            return True
        return is_odd(host_of(scope)) or _is_plain_http_2(scope)

    def _is_ours(self, scope: Any) -> bool:
        """Whether an endpoint of ours will answer, as Quart is going to find out, too."""
        try:
            path, method = _path_in_app(scope), scope["method"]
            endpoint, _ = self._app.url_map.bind("").match(path, method)
        except HTTPException:
            return False
        return str(endpoint).startswith(f"{self._name}.")

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


async def _tell_of_lifespan(send: Any, message: Any) -> None:
    """Send it, and have the garbage collector pass over what the app is made of while it serves.

    One full pass over the modules and the app takes 50 ms, in which no request is served.
    """
    if message["type"] == "lifespan.startup.complete":
        gc.collect()
        gc.freeze()
    elif message["type"] == "lifespan.shutdown.complete":
        gc.unfreeze()
    await send(message)


def _path_in_app(scope: Any) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _is_plain_http_2(scope: Any) -> bool:
    return bool(scope.get("http_version") == "2" and scope.get("scheme") == "http")


def _has_path(target: str) -> bool:
    """Whether a target without a `/` at its beginning is `*`, or an address with a path."""
    try:
        return urlsplit(target).path != ""
    except ValueError:
        return False


def init_middleware(
    app: Quart, name: str, *, whole_app: bool, for_any_host: Container[str]
) -> None:
    """Put the middleware before the app; it is for the blueprint `name` unless for all of it."""
    stop = parts_of(app).watcher.stop
    middleware = Middleware(app, name, stop, whole_app=whole_app, for_any_host=for_any_host)
    app.asgi_app = middleware  # type: ignore[method-assign]  # as Quart's documentation has it
    app.after_serving(middleware.close)
