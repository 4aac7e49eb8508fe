"""Shows, replays and drops dead letters: what the broker has given up on, kept for a person."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from service.broker import messages
from service.broker.dead_letters.model import DeadLetter, as_published_anew
from service.broker.dead_letters.split_redis import SplitRecords
from service.broker.scripts import script
from service.redis.keys import BrokerKeys, ResultKeys
from service.results.record import encode_queued, now

_CHUNK: Final = 100  # letters


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Some of a queue's dead letters, newest first, and how many there are in all."""

    letters: tuple[DeadLetter, ...]
    total: int


class DeadLetters:
    """The dead letters of some queues. Every method raises RedisError.

    `broker` and `results` are the same client unless they are two servers.
    """

    def __init__(
        self,
        broker: Redis,
        results: Redis,
        *,
        result_keys: ResultKeys,
        broker_keys: BrokerKeys,
        queues: Sequence[str] = ("celery",),
    ) -> None:
        self.queues = queues
        self._broker: Any = broker  # as Any: redis-py types its commands for both kinds of client
        self._result_keys = result_keys
        self._keys = broker_keys
        self._split = None if results is broker else SplitRecords(results, result_keys)

    async def page(self, queue: str, *, offset: int = 0, limit: int = 20) -> DeadLetterPage:
        """Some of a queue's dead letters, newest first."""
        key = self._keys.dead_letters_of(queue)
        total = await self._broker.llen(key)
        records = await self._broker.lrange(key, offset, offset + limit - 1)
        return DeadLetterPage(tuple(DeadLetter.decode(record) for record in records), int(total))

    async def all(self) -> AsyncIterator[DeadLetter]:
        """The dead letters of all queues, those of each queue newest first."""
        for queue in self.queues:
            offset, total = 0, 1
            while offset < total:
                page = await self.page(queue, offset=offset, limit=_CHUNK)
                for letter in page.letters:
                    yield letter
                offset, total = offset + _CHUNK, page.total

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        async for letter in self.all():
            if letter.id == letter_id:
                return letter
        return None

    async def replay(self, letter: DeadLetter) -> bool:
        """Queue it again with a fresh count of deliveries; its job says QUEUED then.

        False if the letter is gone. In one step where the results are on the same Redis; else see
        split_redis.py.
        """
        if letter.job_id is None:
            return await self._requeue(letter)
        if self._split is not None:
            return await self._split.replay(
                letter,
                letter.job_id,
                is_kept=lambda: self._is_kept(letter),
                requeue=lambda: self._requeue(letter),
            )
        record = encode_queued(letter.job_id, letter.task, now())
        key = self._result_keys.record(letter.job_id)
        return await self._requeue(letter, key, record, self._result_keys.ttl)

    async def drop(self, letter: DeadLetter) -> bool:
        """Forget it; its job goes on to say FAILURE. False if the letter is gone already."""
        dropped = await self._broker.lrem(
            self._keys.dead_letters_of(letter.queue), 1, letter.record
        )
        if dropped and self._split is not None and letter.job_id is not None:
            await self._split.end_broken_replay(letter, letter.job_id)
        return bool(dropped)

    async def _is_kept(self, letter: DeadLetter) -> bool:
        key = self._keys.dead_letters_of(letter.queue)
        return await self._broker.lpos(key, letter.record) is not None

    async def _requeue(self, letter: DeadLetter, *record: Any) -> bool:
        """Move the message to its queue; `record` is the key, value and ttl of what goes along."""
        message = as_published_anew(letter.message)
        target = letter.queue
        with suppress(messages.UnreadableMessageError):  # then it goes to the queue itself
            steps, separator = self._keys.priority_steps, self._keys.separator
            target = messages.list_of(letter.queue, messages.read(message), steps, separator)
        keys = [self._keys.dead_letters_of(letter.queue), self._keys.list_of(target), *record[:1]]
        arguments = [letter.record, message, *record[1:]]
        return bool(await script("replay").run(self._broker, keys, arguments))
