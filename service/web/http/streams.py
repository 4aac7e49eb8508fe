"""What all event streams share: their answer, and how they end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from quart import Quart, Response, request

_EXTENSION: Final = "service.stopping"

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "X-Accel-Buffering": "no",  # or nginx keeps the events until it has a buffer full
}
RETRY: Final = "retry: 1000\n\n"  # milliseconds until a browser connects again


def stream(events: AsyncIterator[str]) -> Response:
    """The answer that is these events; where it is asked with HEAD, its headers alone."""
    if request.method == "HEAD":
        return Response("", headers=_HEADERS)
    response = Response(events, headers=_HEADERS)
    response.timeout = None  # Quart's own limit would cut the stream
    return response


def when_request_ends(close: Callable[[], None]) -> None:
    """Have this called however the client leaves.

    Quart runs a whole request in one asyncio task. A generator that was never started would not
    even see its `finally`.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    task.add_done_callback(lambda _: close())


def init_stopping(app: Quart) -> None:
    """Give the app the event that tells its streams to end."""
    app.extensions[_EXTENSION] = asyncio.Event()


def get_stopping(app: Quart) -> asyncio.Event:
    """Set when the server stops."""
    stopping: asyncio.Event = app.extensions[_EXTENSION]
    return stopping
