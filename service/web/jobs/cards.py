"""The jobs that a page shows, as HTML: asked for once, waited for, or streamed as they change."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from typing import Any, Final

from quart import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    render_template,
    request,
    stream_with_context,
)
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from service.errors import InvalidJobIdError, ResultsUnavailableError, UnknownJobError
from service.parts import parts_of
from service.results.model import Result
from service.results.record import decode, version
from service.results.watcher import Watch
from service.web.http.filters import EXPIRED
from service.web.http.negotiation import wants_events
from service.web.http.streams import RETRY, get_stopping, stream, when_request_ends
from service.web.jobs.api import LONGEST_WAIT, seconds_to_wait
from service.web.jobs.timeline import tell

MOST: Final = 50  # jobs on one page

_TEMPLATES: Final = {"card": "_card.html", "page": "_job.html"}

cards = Blueprint("cards", __name__)


@cards.get("/jobs")
async def show() -> ResponseReturnValue:
    """The jobs with these ids (`?id=…&id=…`), each as the HTML that the pages show of it.

    With `wait` and `If-None-Match` it answers at the next change; as an event stream it tells
    each. `expired` has those of which nothing is known any more.
    """
    ids = list(dict.fromkeys(request.args.getlist("id")))
    template = _TEMPLATES.get(request.args.get("view", "card"))
    if len(ids) > MOST or template is None:
        raise BadRequest(f"`id` can be given {MOST} times at most; `view` is `card` or `page`.")
    if wants_events():
        return await _stream(ids, template)
    wait = seconds_to_wait()
    stored = await _read(ids)
    if wait > 0 and request.if_none_match.contains_weak(_tag(stored)):
        await _change(stored, wait)
        stored = await _read(ids)
    headers = {"Cache-Control": "no-store", "Vary": "Accept", "ETag": f'"{_tag(stored)}"'}
    if request.if_none_match.contains_weak(_tag(stored)):
        return Response(status=304, headers=headers)
    jobs = [await _as_event(decode(job_id, found), template) for job_id, found in stored.items()]
    return jsonify({"jobs": jobs, "expired": _expired(ids, stored)}), headers


def _expired(ids: Iterable[str], known: Container[str]) -> list[dict[str, str]]:
    return [{"id": job_id, "words": EXPIRED} for job_id in ids if job_id not in known]


async def _read(ids: list[str]) -> dict[str, bytes]:
    async def read(job_id: str) -> tuple[str, bytes | None]:
        try:
            return job_id, await parts_of(current_app).store.read(job_id)
        except (UnknownJobError, InvalidJobIdError):
            return job_id, None

    found = await asyncio.gather(*map(read, ids))
    return {job_id: stored for job_id, stored in found if stored is not None}


def _tag(stored: dict[str, bytes]) -> str:
    names = " ".join(f"{job_id}:{version(record)}" for job_id, record in stored.items())
    return hashlib.blake2b(names.encode(), digest_size=12).hexdigest()


async def _change(stored: dict[str, bytes], seconds: float) -> None:
    """Wait until one of the jobs is not as it was, for at most so many seconds."""
    running = [job_id for job_id, record in stored.items() if not decode(job_id, record).ready]
    watches = await _watch(running)
    try:
        if any(watch.stored != stored[watch.job_id] for watch in watches):
            return
        waits = [asyncio.create_task(watch.change(seconds)) for watch in watches]
        waits.append(asyncio.create_task(get_stopping(current_app).wait()))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
    finally:
        for watch in watches:
            watch.close()


async def _watch(ids: list[str]) -> list[Watch]:
    watches: list[Watch] = []
    try:
        for job_id in ids:
            try:
                watches.append(await parts_of(current_app).watcher.watch(job_id))
            except (UnknownJobError, InvalidJobIdError):
                continue
    except BaseException:
        for watch in watches:
            watch.close()
        raise
    return watches


async def _stream(ids: list[str], template: str) -> Response:
    watches = await _watch(ids)
    news: asyncio.Queue[Watch | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_follow(watch, news)) for watch in watches]
    stopping = get_stopping(current_app)
    tasks.append(asyncio.create_task(_tell_of(stopping, news)))

    def close() -> None:
        for task in tasks:
            task.cancel()
        for watch in watches:
            watch.close()

    when_request_ends(close)
    heartbeat = parts_of(current_app).settings.heartbeat
    events = stream_with_context(_events)(ids, watches, news, template, heartbeat)
    return stream(events)


async def _follow(watch: Watch, news: asyncio.Queue[Watch | None]) -> None:
    """Tell of each change; a job that has ended is not watched any longer."""
    try:
        while not watch.result.ready:
            try:
                changed = await watch.change(LONGEST_WAIT)
            except ResultsUnavailableError:
                continue
            except UnknownJobError:
                return
            if changed:
                news.put_nowait(watch)
            elif watch.stopping:
                return
    finally:
        watch.close()


async def _tell_of(stopping: asyncio.Event, news: asyncio.Queue[Watch | None]) -> None:
    await stopping.wait()
    news.put_nowait(None)


async def _events(
    ids: list[str],
    watches: list[Watch],
    news: asyncio.Queue[Watch | None],
    template: str,
    heartbeat: float,
) -> AsyncIterator[str]:
    yield RETRY
    known = {watch.job_id for watch in watches}
    if len(known) < len(ids):
        yield _event(expired=_expired(ids, known))
    for watch in watches:
        yield _event([await _as_event(watch.result, template)])
    look_at = time.monotonic() + heartbeat
    while True:
        try:
            async with asyncio.timeout(max(0, look_at - time.monotonic())):
                changed = await news.get()
        except TimeoutError:
            look_at = time.monotonic() + heartbeat
            gone = await _gone(known)
            known -= gone
            yield _event(expired=_expired(gone, known)) if gone else ": nothing new\n\n"
            continue
        if changed is None:  # the server is stopping
            return
        yield _event([await _as_event(changed.result, template)])


async def _gone(known: set[str]) -> set[str]:
    """Those of the jobs that have expired since, of which Redis tells nobody."""
    try:
        return known - (await _read(sorted(known))).keys()
    except ResultsUnavailableError:
        return set()


def _event(jobs: Sequence[dict[str, Any]] = (), *, expired: Sequence[dict[str, str]] = ()) -> str:
    return f"data: {json.dumps({'jobs': jobs, 'expired': expired})}\n\n"


async def _as_event(result: Result, template: str) -> dict[str, Any]:
    story = tell(result, in_full=template == _TEMPLATES["page"])
    html = await render_template(template, job=story)
    return {
        "id": story.id,
        "state": story.state,
        "ready": story.ready,
        "summary": story.summary,
        "html": html,
    }
