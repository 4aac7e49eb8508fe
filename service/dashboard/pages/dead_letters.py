"""Shows dead letters, puts them back into their queues, and drops them."""

import json
from contextlib import suppress
from typing import Any, Final

from quart import Blueprint, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.broker.dead_letters.model import DeadLetter
from service.broker.dead_letters.store import DeadLetters
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import require_admin
from service.parts import get_celery, parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.web.http.filters import pretty

PAGE: Final = 20  # letters of a queue
_LAST_PAGE: Final = 10**9  # Redis counts up to 2**63
_MAX_TEXT: Final = 20_000  # characters of a message

dead_letters = Blueprint("dead_letters", __name__, url_prefix="/dashboard/dead-letters")
dead_letters.before_request(require_admin)


@dead_letters.get("")
async def show() -> ResponseReturnValue:
    """The dead letters of all queues, newest first."""
    number = min(max(1, request.args.get("page", 1, type=int)), _LAST_PAGE)
    store, offset = _store(), (number - 1) * PAGE
    async with bounded(_timeout()):
        pages = {
            queue: await store.page(queue, offset=offset, limit=PAGE)
            for queue in dashboard_of(current_app).reader.queue_names()
        }
    page = await render_template(
        "dashboard/dead_letters.html",
        queues=[(queue, map(_shown, page.letters), page.total) for queue, page in pages.items()],
        total=sum(page.total for page in pages.values()),
        number=number,
        last=max(1, *(-(-page.total // PAGE) for page in pages.values())),
        done=request.args.get("done", ""),
    )
    return page, {"Cache-Control": "no-store"}


@dead_letters.post("/<letter_id>/replay")
async def replay(letter_id: str) -> ResponseReturnValue:
    """Put the job back into its queue, as if it were new."""
    store = _store()
    async with bounded(_timeout()):
        letter = await _find(store, letter_id)
    async with bounded(_timeout(), maybe_accepted=True):
        if not await store.replay(letter):
            raise _gone()
    if letter.job_id:
        parts_of(current_app).signals.send_queued(letter.job_id, letter.task or "")
    return _back("replayed")


@dead_letters.post("/<letter_id>/drop")
async def drop(letter_id: str) -> ResponseReturnValue:
    """Forget the dead letter for ever."""
    store = _store()
    async with bounded(_timeout()):
        if not await store.drop(await _find(store, letter_id)):
            raise _gone()
    return _back("dropped")


def _store() -> DeadLetters:
    parts = parts_of(current_app)
    return DeadLetters(
        parts.broker_redis,
        parts.redis,
        result_keys=parts.keys,
        broker_keys=broker_keys(get_celery(current_app).conf),
        queues=dashboard_of(current_app).reader.queue_names(),
    )


def _timeout() -> float:
    return parts_of(current_app).settings.redis_timeout


async def _find(store: DeadLetters, letter_id: str) -> DeadLetter:
    letter = await store.get(letter_id)
    if letter is None:
        raise _gone()
    return letter


def _gone() -> NotFound:
    return NotFound("There is no such dead letter: it was replayed or dropped already.")


def _back(done: str) -> ResponseReturnValue:
    dashboard_of(current_app).reader.expire()
    return redirect(url_for("dead_letters.show", done=done), 303)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    text = letter.message.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text = pretty(json.loads(text))
    return {"letter": letter, "text": text[:_MAX_TEXT]}
