"""Answers with event streams: writes their text, and cleans up when a client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from quart import Response, request

_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "X-Accel-Buffering": "no",  # or nginx keeps the events until it has a buffer full
}
RETRY: Final = "retry: 1000\n\n"  # milliseconds until a browser connects again


def stream(events: AsyncIterator[str]) -> Response:
    """An answer that is these events; its headers alone for a HEAD request."""
    if request.method == "HEAD":
        return Response("", headers=_HEADERS)
    response = Response(events, headers=_HEADERS)
    response.timeout = None  # Quart's own limit would cut the stream
    return response


def event(data: Any, *, name: str = "", version: str = "") -> str:
    """The text of one server-sent event; `version` is what a client comes back with."""
    head = (f"id: {version}\n" if version else "") + (f"event: {name}\n" if name else "")
    return f"{head}data: {json.dumps(data)}\n\n"


def comment(text: str) -> str:
    """The text that keeps a silent stream open; a browser passes it over."""
    return f": {text}\n\n"


def when_request_ends(close: Callable[[], None]) -> None:
    """Call this when the request is over, however the client leaves.

    Quart runs a whole request in one asyncio task. The `finally` of a generator would not do:
    one that was never started does not reach it.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    task.add_done_callback(lambda _: close())
