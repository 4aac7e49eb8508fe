"""Answers with event streams: writes their text, and cleans up when a client leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, cast

from quart import Response, current_app, request

from service.parts import parts_of
from service.web.asgi.connection import cutter

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
    seconds = parts_of(current_app).settings.write_timeout
    bounded = _cut_if_unread(events, seconds, cutter(request.scope) or _request_task().cancel)
    response = Response(bounded, headers=_HEADERS)
    response.timeout = None  # Quart's own limit would cut the stream
    return response


async def _cut_if_unread(
    events: AsyncIterator[str], seconds: float, cut: Callable[[], object]
) -> AsyncIterator[str]:
    """The events; `cut` is called where a client leaves one unread for so long."""
    loop = asyncio.get_running_loop()
    async with aclosing(cast("AsyncGenerator[str]", events)) as texts:
        async for text in texts:
            timer = loop.call_later(seconds, cut)
            try:
                yield text
            finally:
                timer.cancel()


def event(data: Any, *, name: str = "", version: str = "") -> str:
    """The text of one server-sent event; `version` is what a client comes back with."""
    head = (f"id: {version}\n" if version else "") + (f"event: {name}\n" if name else "")
    return f"{head}data: {json.dumps(data)}\n\n"


def comment(text: str) -> str:
    """The text that keeps a silent stream open; a browser passes it over."""
    return f": {text}\n\n"


def when_request_ends(close: Callable[[], None]) -> None:
    """Call this when the request is over, however the client leaves.

    The `finally` of a generator would not do: one that was never started does not reach it.
    """
    _request_task().add_done_callback(lambda _: close())


def _request_task() -> "asyncio.Task[Any]":
    """The task of the current request: Quart runs a whole request in one."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    return task
