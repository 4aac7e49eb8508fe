"""Shows dead letters, puts them back into their queues, and drops them."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from quart import Blueprint, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.access.access import audit
from service.access.policy import Action
from service.broker.dead_letters.model import DeadLetter
from service.broker.dead_letters.store import DeadLetters
from service.dashboard.events.failures import bars_of
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import may, require, sees_in_full
from service.jobs.celery.republishing import publish_by
from service.parts import parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.web.http.filters import pretty
from service.web.http.site import render
from service.web.limits.checks import holding

PAGE: Final = 20  # letters of a queue
MOST: Final = 1_000  # letters in one act, and that are looked at for groups
_LAST_PAGE: Final = 10**9  # Redis counts up to 2**63
_MAX_TEXT: Final = 20_000  # characters of a message
_GONE: Final = "There is no such dead letter: it was replayed or dropped already."

dead_letters = Blueprint("dead_letters", __name__)
dead_letters.before_request(require(Action.WATCH))
_check_operator: Final = require(Action.OPERATE)  # it never redirects a POST, so this raises


@dead_letters.get("")
async def show() -> ResponseReturnValue:
    """The dead letters of all queues, newest first."""
    number = min(max(1, request.args.get("page", 1, type=int)), _LAST_PAGE)
    async with _opened() as store:
        pages = {
            queue: await store.page(queue, offset=(number - 1) * PAGE, limit=PAGE)
            for queue in store.queues
        }
        newest = await store.newest(MOST)
    now = time.time()
    page = await render(
        "dashboard/dead_letters.html",
        queues=[
            (queue, [(each, _text_of(each)) for each in page.letters], page.total)
            for queue, page in pages.items()
        ],
        in_full=await sees_in_full(),
        groups=[
            (group, bars_of([each.at.timestamp() for each in group], now))
            for group in _grouped(newest)
        ],
        looked_at=len(newest),
        total=sum(page.total for page in pages.values()),
        number=number,
        last=max(1, *(-(-page.total // PAGE) for page in pages.values())),
        done=request.args.get("done", ""),
        count=request.args.get("count", 1, type=int),
        may_operate=await may(Action.OPERATE),
    )
    return page, {"Cache-Control": "no-store"}


@dead_letters.get("/many")
async def ask_for_many() -> ResponseReturnValue:
    """Say how many letters of a `group` would be replayed or dropped (`act`), and ask."""
    await _check_operator()
    act, letters = await _chosen()
    page = await render(
        "dashboard/many/letters.html",
        act=act,
        letters=letters,
        in_full=await sees_in_full(),
        most=MOST,
        until=max((letter.at.timestamp() for letter in letters), default=0.0),
    )
    return page, {"Cache-Control": "no-store"}


@dead_letters.post("/many")
async def act_on_many() -> ResponseReturnValue:
    """Replay or drop the letters of a group that were there when it was asked."""
    await _check_operator()
    act, letters = await _chosen()
    with holding("bodies"):
        until = (await request.form).get("until", 0.0, type=float)
    letters = [letter for letter in letters if letter.at.timestamp() <= until]
    done = 0
    try:
        for letter in letters:  # within the timeout each, however many there are
            async with _opened(maybe_accepted=True) as store:
                was_there = await (store.replay if act == "replay" else store.drop)(letter)
            if was_there and act == "replay" and letter.job_id:
                parts_of(current_app).signals.send_queued(
                    letter.job_id, letter.task or "", letter.queue
                )
            done += was_there
    finally:
        if letters:
            what = f"{done} dead letters: {letters[0].task or 'no task'}, {letters[0].reason}"
            await audit(act, what)
    return _back("replayed" if act == "replay" else "dropped", count=done)


@dead_letters.post("/<letter_id>/replay")
async def replay(letter_id: str) -> ResponseReturnValue:
    """Put the job back into its queue, as if it were new."""
    await _check_operator()
    async with _opened() as store:
        letter = await _find(store, letter_id)
    async with _opened(maybe_accepted=True) as store:
        if not await store.replay(letter):
            raise NotFound(_GONE)
    if letter.job_id:
        parts_of(current_app).signals.send_queued(letter.job_id, letter.task or "", letter.queue)
    await audit("replay", f"dead letter {letter_id}")
    return _back("replayed")


@dead_letters.post("/<letter_id>/drop")
async def drop(letter_id: str) -> ResponseReturnValue:
    """Forget the dead letter for ever."""
    await _check_operator()
    async with _opened() as store:
        if not await store.drop(await _find(store, letter_id)):
            raise NotFound(_GONE)
    await audit("drop", f"dead letter {letter_id}")
    return _back("dropped")


@asynccontextmanager
async def _opened(*, maybe_accepted: bool = False) -> AsyncIterator[DeadLetters]:
    """The dead letters, to be used within the timeout. Raises ResultsUnavailableError."""
    parts = parts_of(current_app)
    celery = parts.celery.get()
    async with bounded(parts.settings.redis_timeout, maybe_accepted=maybe_accepted):
        yield DeadLetters(
            parts.broker_redis,
            parts.redis,
            result_keys=parts.keys,
            broker_keys=broker_keys(celery.conf),
            queues=dashboard_of(current_app).reader.queue_names(),
            publish=publish_by(celery),
        )


async def _find(store: DeadLetters, letter_id: str) -> DeadLetter:
    letter = await store.get(letter_id)
    if letter is None:
        raise NotFound(_GONE)
    return letter


async def _chosen() -> tuple[str, list[DeadLetter]]:
    """The act that the address names, and the letters that it can be done to."""
    act = request.args.get("act", "")
    if act not in {"replay", "drop"}:
        raise NotFound
    async with _opened() as store:
        letters = await store.newest(MOST, request.args.get("group", "-"))
    return act, [letter for letter in letters if act == "drop" or letter.can_be_replayed]


def _grouped(letters: Sequence[DeadLetter]) -> list[list[DeadLetter]]:
    """The letters by task and reason; the group with the newest one first."""
    groups: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(letter.group, []).append(letter)
    found = [sorted(group, key=lambda letter: letter.at) for group in groups.values()]
    return sorted(found, key=lambda group: group[-1].at, reverse=True)


def _back(done: str, count: int = 1) -> ResponseReturnValue:
    dashboard_of(current_app).reader.expire()
    return redirect(url_for("service.dead_letters.show", done=done, count=count), 303)


def _text_of(letter: DeadLetter) -> str:
    """The message as people read it."""
    text = letter.message.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        text = pretty(json.loads(text))
    return text[:_MAX_TEXT]
