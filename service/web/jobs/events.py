"""Streams a job's changes to a client as server-sent events."""

import json
from collections.abc import AsyncIterator

from quart import Response, current_app, request

from service.errors import ResultsUnavailableError, UnknownJobError
from service.parts import parts_of
from service.results.record import version
from service.results.watcher import Watch
from service.web.http.streams import RETRY, stream, when_request_ends
from service.web.jobs.job_json import as_json


async def stream_events(job_id: str) -> Response:
    """Every change of a job from now until it has ended.

    A client that says by Last-Event-ID that it has seen the end gets a 204, at which a browser's
    EventSource gives up connecting again.
    """
    watch = await parts_of(current_app).watcher.watch(job_id)
    when_request_ends(watch.close)
    seen = request.headers.get("Last-Event-ID")
    if watch.result.ready and seen == version(watch.stored):
        return Response(status=204, headers={"Cache-Control": "no-store"})
    settings = parts_of(current_app).settings
    return stream(_events(watch, seen, settings.heartbeat))


async def _events(watch: Watch, seen: str | None, heartbeat: float) -> AsyncIterator[str]:
    yield RETRY
    if seen != version(watch.stored):
        yield _event(watch)
    while not watch.result.ready:
        try:
            changed = await watch.change(heartbeat)
        except ResultsUnavailableError:
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
