"""Shows, replays and drops dead letters: what the broker has given up on, kept for a person."""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from service.broker import messages
from service.broker.dead_letters.asking import Asking, ask, ask_async, of_broker
from service.broker.dead_letters.model import Box, DeadLetter, decode, fresh
from service.broker.dead_letters.split_redis import (
    ask_to_say_failed,
    ask_to_say_queued,
    ask_to_take_back,
)
from service.broker.scripts import script
from service.redis.keys import ResultKeys
from service.results.record import encode_queued, now

T = TypeVar("T")

_CHUNK: Final = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a queue's dead letters, newest first, and how many there are in all."""

    letters: tuple[DeadLetter, ...]
    total: int


def ask_page(box: Box, queue: str, offset: int, limit: int) -> Asking[Page]:
    """A page of a queue's dead letters."""
    total = yield of_broker("LLEN", box.key(queue))
    records = yield of_broker("LRANGE", box.key(queue), offset, offset + limit - 1)
    return Page(tuple(decode(record) for record in records), int(total))


def ask_letter(box: Box, letter_id: str) -> Asking[DeadLetter | None]:
    """The newest dead letter with this id, in any of the queues."""
    for queue in box.queues:
        offset = 0
        while True:
            page = yield from ask_page(box, queue, offset, _CHUNK)
            for letter in page.letters:
                if letter.id == letter_id:
                    return letter
            offset += _CHUNK
            if offset >= page.total:
                break
    return None


def ask_replay(box: Box, letter: DeadLetter, keys: ResultKeys) -> Asking[bool]:
    """Queue the message again, with a record that says so; false if the letter is gone."""
    if letter.job_id is None:
        return (yield from _ask_move(box, letter))
    record = encode_queued(letter.job_id, letter.task, now())
    return (yield from _ask_move(box, letter, keys.record(letter.job_id), record, keys.ttl))


def ask_replay_apart(box: Box, letter: DeadLetter, keys: ResultKeys) -> Asking[bool]:
    """The same where the record is on another Redis."""
    if letter.job_id is None:
        return (yield from _ask_move(box, letter))
    change = yield from ask_to_say_queued(box, keys, letter, letter.job_id)
    if change is None:
        return False
    moved = yield from _ask_move(box, letter)
    if not moved:
        yield from ask_to_take_back(keys, letter.job_id, change)
    return moved


def ask_drop(box: Box, letter: DeadLetter) -> Asking[bool]:
    """Forget a dead letter; false if it is gone already."""
    dropped = yield of_broker("LREM", box.key(letter.queue), 1, letter.record)
    return bool(dropped)


def ask_drop_apart(box: Box, letter: DeadLetter, keys: ResultKeys) -> Asking[bool]:
    """The same where the record is on another Redis."""
    dropped = yield from ask_drop(box, letter)
    if dropped and letter.job_id is not None:
        yield from ask_to_say_failed(keys, letter, letter.job_id)
    return dropped


def _ask_move(box: Box, letter: DeadLetter, *record: Any) -> Asking[bool]:
    """Move the message to its queue; `record` is the key, value and lifetime of what goes along."""
    message = fresh(letter.message)
    target = letter.queue
    try:
        payload = messages.read(message)
        target = messages.list_of(letter.queue, payload, box.priority_steps, box.separator)
    except messages.UnreadableMessageError:
        pass  # as it was: on the queue itself
    names = [box.key(letter.queue), box.prefix + target, *record[:1]]
    words = ("EVAL", script("replay").text, len(names), *names, letter.record, message, *record[1:])
    moved = yield of_broker(*words)
    return bool(moved)


class DeadLetters:
    """Dead letters on a synchronous client. Every method raises RedisError.

    `results` is a client of the results' Redis, where that is another one.
    """

    def __init__(
        self,
        client: Redis,
        keys: ResultKeys,
        box: Box | None = None,
        *,
        results: Redis | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._box = box or Box()
        self._results = results

    def page(self, queue: str, *, offset: int = 0, limit: int = 20) -> Page:
        """Some of a queue's dead letters, newest first."""
        return self._ask(ask_page(self._box, queue, offset, limit))

    def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        return self._ask(ask_letter(self._box, letter_id))

    def replay(self, letter: DeadLetter) -> bool:
        """Queue it again with a fresh count of deliveries; its job says QUEUED then.

        In one step where the results are on the same Redis; else see `apart.py`.
        """
        replay = ask_replay if self._results is None else ask_replay_apart
        return self._ask(replay(self._box, letter, self._keys))

    def drop(self, letter: DeadLetter) -> bool:
        """Forget it; its job goes on to say FAILURE."""
        if self._results is None:
            return self._ask(ask_drop(self._box, letter))
        return self._ask(ask_drop_apart(self._box, letter, self._keys))

    def _ask(self, asking: Asking[T]) -> T:
        return ask(asking, broker=self._client, results=self._results or self._client)


class AsyncDeadLetters:
    """The same on an asyncio client."""

    def __init__(
        self,
        client: AsyncRedis,
        keys: ResultKeys,
        box: Box | None = None,
        *,
        results: AsyncRedis | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._box = box or Box()
        self._results = results

    async def page(self, queue: str, *, offset: int = 0, limit: int = 20) -> Page:
        """Some of a queue's dead letters, newest first."""
        return await self._ask(ask_page(self._box, queue, offset, limit))

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        return await self._ask(ask_letter(self._box, letter_id))

    async def replay(self, letter: DeadLetter) -> bool:
        """Queue it again with a fresh count of deliveries, as above."""
        replay = ask_replay if self._results is None else ask_replay_apart
        return await self._ask(replay(self._box, letter, self._keys))

    async def drop(self, letter: DeadLetter) -> bool:
        """Forget it; its job goes on to say FAILURE."""
        if self._results is None:
            return await self._ask(ask_drop(self._box, letter))
        return await self._ask(ask_drop_apart(self._box, letter, self._keys))

    async def _ask(self, asking: Asking[T]) -> T:
        return await ask_async(asking, broker=self._client, results=self._results or self._client)
