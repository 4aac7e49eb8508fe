"""Shows, replays and drops dead letters: what the broker has given up on, kept for a person.

Where the results are on another Redis than the broker (the split Redis) a replay cannot be one
step. The record is changed first, and the message moved then: a crash in between leaves a job that
says QUEUED and a letter that can be replayed, or dropped, once more. The other way round the job
would run under its FAILURE, which no result can replace, and there would be no letter left to begin
anew with. Another person may replay or drop the same letter at the same time: so a record is only
changed while it is what it was when the letter was still there, and is changed back when the letter
turns out to be gone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis

from service.broker import messages
from service.broker.canvas import later_jobs
from service.broker.dead_letters.model import DeadLetter, as_published_anew
from service.broker.scripts import script
from service.errors import DeadLetterError
from service.redis.keys import BrokerKeys, ResultKeys
from service.redis.script import compare_and_set
from service.results.marks import mark_of, owner_of
from service.results.model import State
from service.results.record import encode_ended, encode_queued, failed_alike, now

_CHUNK: Final = 100  # letters
_MARK: Final = "replayed_letter"
# Publishes a message to a queue of a broker that is no Redis.
Publish = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Some of a queue's dead letters, newest first, and how many there are in all."""

    letters: tuple[DeadLetter, ...]
    total: int


class DeadLetters:
    """The dead letters of some queues. Every method raises RedisError.

    `broker` and `results` are the same client unless they are two servers. Where the broker is no
    Redis, its dead letters are kept beside the results, and `publish` replays them. It may raise,
    and a message that two replay at the same time may be published twice.
    """

    def __init__(  # noqa: PLR0913  the last four by name
        self,
        broker: Redis,
        results: Redis,
        *,
        result_keys: ResultKeys,
        broker_keys: BrokerKeys,
        queues: Sequence[str] = ("celery",),
        publish: Publish | None = None,
    ) -> None:
        self.queues = queues
        self._publish = publish
        self._is_split = results is not broker or publish is not None
        self._broker: Any = broker  # as Any: redis-py types its commands for both kinds of client
        self._results: Any = results
        self._result_keys = result_keys
        self._keys = broker_keys

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

    async def newest(self, limit: int, group: str = "") -> list[DeadLetter]:
        """At most so many letters, of one group if one is given; of each queue newest first."""
        found: list[DeadLetter] = []
        async for letter in self.all():
            if not group or letter.group == group:
                found.append(letter)
            if len(found) == limit:
                break
        return found

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The newest dead letter with this id: its job's, or one made up for it."""
        async for letter in self.all():
            if letter.id == letter_id:
                return letter
        return None

    async def replay(self, letter: DeadLetter) -> bool:
        """Queue it again with a fresh count of deliveries; its job says QUEUED then.

        False if the letter is gone. In one step unless Redis is split.
        """
        if letter.job_id is None:
            return await self._requeue(letter)
        await self._revive_later_jobs(letter, letter.job_id)
        if self._is_split:
            return await self._replay_split(letter, letter.job_id)
        record = encode_queued(
            letter.job_id, letter.task, now(), owner=letter.owner, queue=letter.queue
        )
        key = self._result_keys.record(letter.job_id)
        return await self._requeue(letter, key, record, self._result_keys.open_ttl)

    async def drop(self, letter: DeadLetter) -> bool:
        """Forget it; its job goes on to say FAILURE. False if the letter is gone already."""
        dropped = await self._broker.lrem(
            self._keys.dead_letters_of(letter.queue), 1, letter.record
        )
        if dropped and self._is_split and letter.job_id is not None:
            await self._end_broken_replay(letter, letter.job_id)
        return bool(dropped)

    async def _replay_split(self, letter: DeadLetter, job_id: str) -> bool:
        """Have the record say QUEUED, then requeue; does it again where that crashed in between."""
        mark = {_MARK: _digest(letter)}
        owner, queue = letter.owner, letter.queue
        after = encode_queued(
            job_id, letter.task, now(), owner=owner, queue=queue, marks=mark
        ).encode()
        while True:
            before = await self._stored(job_id)
            # Look for the letter after reading the record: while the letter is here, nobody has
            # replayed it, so the record read before cannot be one that a worker made since.
            key = self._keys.dead_letters_of(letter.queue)
            if await self._broker.lpos(key, letter.record) is None:
                return False
            if await self._change(job_id, before, after, self._result_keys.open_ttl):
                break
        if await self._requeue(letter):
            return True
        await self._change(job_id, after, before, self._result_keys.ttl)
        return False

    async def _revive_later_jobs(self, letter: DeadLetter, job_id: str) -> None:
        """Have the records of the jobs that failed with this one say QUEUED: they run after it."""
        chain = messages.embedded(letter.message).get("chain") or ()
        failed = await self._stored(job_id) if chain else b""
        for job in later_jobs(chain):
            stored = await self._stored(job.id)
            if failed_alike(failed, stored):
                owner = owner_of(stored)
                record = encode_queued(job.id, job.signature["task"], now(), owner=owner)
                await self._change(job.id, stored, record.encode(), self._result_keys.open_ttl)

    async def _end_broken_replay(self, letter: DeadLetter, job_id: str) -> None:
        """Have the record say FAILURE where a replay of this letter, now dropped, broke off."""
        while mark_of(stored := await self._stored(job_id), _MARK) == _digest(letter):
            error = DeadLetterError(letter.reason)
            failed = encode_ended(stored, State.FAILURE, error, without=_MARK)
            if await self._change(job_id, stored, failed, self._result_keys.ttl):
                return

    async def _stored(self, job_id: str) -> bytes:
        return await self._results.get(self._result_keys.record(job_id)) or b""

    async def _change(self, job_id: str, before: bytes, after: bytes, ttl: int) -> bool:
        key = self._result_keys.record(job_id)
        return await compare_and_set(self._results, key, before, after, ttl=ttl)

    async def _requeue(self, letter: DeadLetter, *record: Any) -> bool:
        """Move the message to its queue; `record` is the key, value and ttl of what goes along."""
        message = as_published_anew(letter.message)
        if self._publish is not None:
            await self._publish(letter.queue, message)
            return bool(
                await self._broker.lrem(self._keys.dead_letters_of(letter.queue), 1, letter.record)
            )
        target = letter.queue
        with suppress(messages.UnreadableMessageError):  # then it goes to the queue itself
            steps, separator = self._keys.priority_steps, self._keys.separator
            target = messages.list_of(letter.queue, messages.read(message), steps, separator)
        keys = [self._keys.dead_letters_of(letter.queue), self._keys.list_of(target), *record[:1]]
        arguments = [letter.record, message, *record[1:]]
        return bool(await script("replay").run(self._broker, keys, arguments))


def _digest(letter: DeadLetter) -> str:
    return sha1(letter.record).hexdigest()[:16]  # noqa: S324 - a name, not a secret
