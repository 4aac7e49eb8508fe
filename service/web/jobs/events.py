"""Streams a job's changes to a client as server-sent events."""

import json
from collections.abc import AsyncIterator

from quart import Response, current_app, request

from service.errors import UnknownJobError
from service.parts import parts_of
from service.results.follower import Follower, NoChange
from service.results.store import StoredRecord
from service.web.http.streams import RETRY, stream, when_request_ends
from service.web.jobs.views import as_json


async def stream_events(job_id: str) -> Response:
    """Every change of a job from now until it has ended.

    A client that says by Last-Event-ID that it has seen the end gets a 204, at which a browser's
    EventSource gives up connecting again.
    """
    parts = parts_of(current_app)
    follower = await parts.watcher.follow(job_id, interval=parts.settings.heartbeat)
    when_request_ends(follower.close)
    record = follower.record(job_id)
    seen = request.headers.get("Last-Event-ID")
    if record.result.ready and seen == record.version:
        return Response(status=204, headers={"Cache-Control": "no-store"})
    return stream(_job_events(follower, record, seen))


async def _job_events(
    follower: Follower, record: StoredRecord, seen: str | None
) -> AsyncIterator[str]:
    yield RETRY
    if seen != record.version:
        yield _job_event(record)
    if record.result.ready:
        return
    async for change in follower:
        if isinstance(change, NoChange):
            yield f": {change.value}\n\n"
        elif change.record is None:
            detail = str(UnknownJobError(change.job_id))
            yield f"event: gone\ndata: {json.dumps({'detail': detail})}\n\n"
            return
        else:
            yield _job_event(change.record)
            if change.record.result.ready:
                return


def _job_event(record: StoredRecord) -> str:
    return f"id: {record.version}\ndata: {json.dumps(as_json(record.result))}\n\n"
