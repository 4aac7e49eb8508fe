"""Shows dead letters, puts them back into their queues, and drops them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from quart import Blueprint, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.broker.dead_letters.model import DeadLetter
from service.broker.dead_letters.store import DeadLetters
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import require_admin
from service.parts import parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.web.http.filters import pretty

PAGE: Final = 20  # letters of a queue
_LAST_PAGE: Final = 10**9  # Redis counts up to 2**63
_MAX_TEXT: Final = 20_000  # characters of a message
_GONE: Final = "There is no such dead letter: it was replayed or dropped already."

dead_letters = Blueprint("dead_letters", __name__, url_prefix="/dashboard/dead-letters")
dead_letters.before_request(require_admin)


@dead_letters.get("")
async def show() -> ResponseReturnValue:
    """The dead letters of all queues, newest first."""
    number = min(max(1, request.args.get("page", 1, type=int)), _LAST_PAGE)
    async with _opened() as store:
        pages = {
            queue: await store.page(queue, offset=(number - 1) * PAGE, limit=PAGE)
            for queue in store.queues
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
    async with _opened() as store:
        letter = await _find(store, letter_id)
    async with _opened(maybe_accepted=True) as store:
        if not await store.replay(letter):
            raise NotFound(_GONE)
    if letter.job_id:
        parts_of(current_app).signals.send_queued(letter.job_id, letter.task or "")
    return _back("replayed")


@dead_letters.post("/<letter_id>/drop")
async def drop(letter_id: str) -> ResponseReturnValue:
    """Forget the dead letter for ever."""
    async with _opened() as store:
        if not await store.drop(await _find(store, letter_id)):
            raise NotFound(_GONE)
    return _back("dropped")


@asynccontextmanager
async def _opened(*, maybe_accepted: bool = False) -> AsyncIterator[DeadLetters]:
    """The dead letters, to be used within the timeout. Raises ResultsUnavailableError."""
    parts = parts_of(current_app)
    async with bounded(parts.settings.redis_timeout, maybe_accepted=maybe_accepted):
        yield DeadLetters(
            parts.broker_redis,
            parts.redis,
            result_keys=parts.keys,
            broker_keys=broker_keys(parts.celery.get().conf),
            queues=dashboard_of(current_app).reader.queue_names(),
        )


async def _find(store: DeadLetters, letter_id: str) -> DeadLetter:
    letter = await store.get(letter_id)
    if letter is None:
        raise NotFound(_GONE)
    return letter


def _back(done: str) -> ResponseReturnValue:
    dashboard_of(current_app).reader.expire()
    return redirect(url_for("dead_letters.show", done=done), 303)


def _shown(letter: DeadLetter) -> dict[str, Any]:
    text = letter.message.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text = pretty(json.loads(text))
    return {"letter": letter, "text": text[:_MAX_TEXT]}
