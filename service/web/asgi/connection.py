"""Cuts a client off, which ASGI has no word for."""

from collections.abc import Callable
from typing import Any, Final

_SEND: Final = "service.send"  # the key in a request's scope


def keep_send(scope: Any, send: Any) -> None:
    """Keep the server's `send` in the scope: `cutter` finds the connection through it."""
    scope[_SEND] = send


def cutter(scope: Any) -> Callable[[], None] | None:
    """A function that drops the request's connection at once, unread data included.

    It reaches into Hypercorn. None under another server, or if a release of Hypercorn moves these
    attributes: then update the chain below (tests/system/web/test_slow_clients.py fails). Closing
    in order would wait for the client.
    """
    stream = getattr(scope.get(_SEND), "__self__", None)
    protocol = getattr(getattr(stream, "send", None), "__self__", None)
    server = getattr(getattr(protocol, "send", None), "__self__", None)
    transport = getattr(getattr(server, "writer", None), "transport", None)
    return getattr(transport, "abort", None)
