"""Dead letters: to be read, put back into their queue, or dropped."""

import json
from contextlib import suppress
from typing import Any, Final

from quart import Blueprint, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.broker.dead_letters.model import Box, DeadLetter, box_for
from service.broker.dead_letters.store import AsyncDeadLetters
from service.broker.dead_letters.store import Page as Letters
from service.dashboard.pages.sign_in import require_admin
from service.dashboard.pages.views import get_reader, queue_keys
from service.parts import get_celery, parts_of
from service.redis.bounded import bounded
from service.signals import send_queued
from service.web.http.filters import pretty

PAGE: Final = 20  # letters
_LAST: Final = 10**9  # page; Redis counts up to 2**63

dead_letters = Blueprint("dead_letters", __name__, url_prefix="/dashboard/dead-letters")
dead_letters.before_request(require_admin)


@dead_letters.get("")
async def show() -> ResponseReturnValue:
    """The dead letters of all queues, newest first."""
    number = min(max(1, request.args.get("page", 1, type=int)), _LAST)
    box, letters = _box()
    pages: list[tuple[str, Letters]] = []
    async with bounded(parts_of(current_app).settings.redis_timeout):
        for queue in box.queues:
            found = await letters.page(queue, offset=(number - 1) * PAGE, limit=PAGE)
            pages.append((queue, found))
    page = await render_template(
        "dead_letters.html",
        queues=[(queue, [_shown(x) for x in found.letters], found.total) for queue, found in pages],
        total=sum(found.total for _, found in pages),
        number=number,
        last=max(1, *(-(-found.total // PAGE) for _, found in pages)),
        done=request.args.get("done", ""),
    )
    return page, {"Cache-Control": "no-store"}


@dead_letters.post("/<letter_id>/replay")
async def replay(letter_id: str) -> ResponseReturnValue:
    """Put the job back into its queue, as if it were new."""
    _, letters = _box()
    timeout = parts_of(current_app).settings.redis_timeout
    async with bounded(timeout):
        letter = await _find(letters, letter_id)
    async with bounded(timeout, maybe_accepted=True):
        if not await letters.replay(letter):
            raise _gone()
    if letter.job_id:
        app: Any = current_app
        send_queued(app._get_current_object(), letter.job_id, letter.task or "")  # noqa: SLF001  opens the proxy
    return _back("replayed")


@dead_letters.post("/<letter_id>/drop")
async def drop(letter_id: str) -> ResponseReturnValue:
    """Forget it for ever."""
    _, letters = _box()
    async with bounded(parts_of(current_app).settings.redis_timeout):
        if not await letters.drop(await _find(letters, letter_id)):
            raise _gone()
    return _back("dropped")


def _box() -> tuple[Box, AsyncDeadLetters]:
    queues = [queue.name for queue in queue_keys(current_app, get_reader(current_app).known)]
    box = box_for(get_celery(current_app).conf.broker_transport_options, queues)
    client, results = parts_of(current_app).broker_redis, parts_of(current_app).redis
    apart = None if results is client else results
    keys = parts_of(current_app).keys
    return box, AsyncDeadLetters(client, keys, box, results=apart)


async def _find(letters: AsyncDeadLetters, letter_id: str) -> DeadLetter:
    letter = await letters.get(letter_id)
    if letter is None:
        raise _gone()
    return letter


def _gone() -> NotFound:
    return NotFound("There is no such dead letter: it was replayed or dropped already.")


def _back(done: str) -> ResponseReturnValue:
    get_reader(current_app).expire()
    return redirect(url_for("dead_letters.show", done=done), 303)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    text = letter.message.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text = pretty(json.loads(text))
    return {"letter": letter, "text": text[:20_000]}
