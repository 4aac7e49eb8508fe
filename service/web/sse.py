"""Streams a job's changes to a client as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from quart import Response, current_app, request

from service.errors import BrokerUnavailableError, UnknownJobError
from service.results.model import version
from service.results.watcher import Watch, get_watcher
from service.settings import get_settings
from service.web.negotiation import EVENTS
from service.web.presentation import as_json

_HEADERS: Final = {
    "Content-Type": f"{EVENTS}; charset=utf-8",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "X-Accel-Buffering": "no",  # or nginx keeps the events until it has a buffer full
}
_RETRY: Final = "retry: 1000\n\n"  # milliseconds until a browser connects again


async def stream_events(job_id: str) -> Response:
    """Every change of a job from now until it has ended.

    A client that says by Last-Event-ID that it has seen the end gets a 204, at which a browser's
    EventSource gives up connecting again.
    """
    watch = await get_watcher(current_app).watch(job_id)
    # Quart runs a whole request in one asyncio task. Its end is the one thing that comes however
    # the client leaves: a generator that was never started would not even see its `finally`.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine runs in a task
    task.add_done_callback(lambda _: watch.close())
    seen = request.headers.get("Last-Event-ID")
    if watch.result.ready and seen == version(watch.stored):
        return Response(status=204, headers={"Cache-Control": "no-store"})
    settings = get_settings(current_app)
    response = Response(_events(watch, seen, settings.heartbeat), headers=_HEADERS)
    response.timeout = None  # Quart's own limit would cut the stream
    return response


async def _events(watch: Watch, seen: str | None, heartbeat: float) -> AsyncIterator[str]:
    yield _RETRY
    if seen != version(watch.stored):
        yield _event(watch)
    while not watch.result.ready:
        try:
            changed = await watch.change(heartbeat)
        except BrokerUnavailableError:
            yield ": Redis cannot be asked at the moment\n\n"
        except UnknownJobError as error:
            yield f"event: gone\ndata: {json.dumps({'detail': str(error)})}\n\n"
            return
        else:
            if changed:
                yield _event(watch)
            elif watch.stopping:
                return
            else:
                yield ": nothing new\n\n"


def _event(watch: Watch) -> str:
    return f"id: {version(watch.stored)}\ndata: {json.dumps(as_json(watch.result))}\n\n"
