"""Changes the records of dead letters where the results are on another Redis than the broker.

There it cannot be one step. The record is changed first, and the message moved then: a crash in
between leaves a job that says QUEUED and a letter that can be replayed, or dropped, once more.
The other way round the job would run under its FAILURE, which no result can replace, and there
would be no letter left to begin anew with. Another person may replay or drop the same letter at
the same time: so a record is only changed while it is what it was when the letter was still
there, and is changed back when the letter turns out to be gone.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis

from service.broker.dead_letters.model import DeadLetter
from service.errors import DeadLetterError
from service.redis.keys import ResultKeys
from service.redis.script import compare_and_set
from service.results.model import State
from service.results.record import encode_ended, encode_queued, mark_of, now

_MARK: Final = "replayed_letter"


class SplitRecords:
    """The records of dead letters' jobs. Every method raises RedisError."""

    def __init__(self, results: Redis, keys: ResultKeys) -> None:
        self._results = results
        self._keys = keys

    async def replay(
        self,
        letter: DeadLetter,
        job_id: str,
        *,
        is_kept: Callable[[], Awaitable[bool]],
        requeue: Callable[[], Awaitable[bool]],
    ) -> bool:
        """Have the record say QUEUED, then call `requeue`; false if the letter is gone.

        A replay that crashed after its first step is done again.
        """
        mark = {_MARK: _digest(letter)}
        after = encode_queued(job_id, letter.task, now(), marks=mark).encode()
        while True:
            before = await self._stored(job_id)
            # In this order: had the letter been moved before the record was read, it would not be
            # there now, and what a worker has stored since could be taken for what is replaced.
            if not await is_kept():
                return False
            if await self._change(job_id, before, after):
                break
        if await requeue():
            return True
        await self._change(job_id, after, before)
        return False

    async def end_broken_replay(self, letter: DeadLetter, job_id: str) -> None:
        """Have the record say FAILURE where a replay of this letter, now dropped, broke off."""
        while True:
            stored = await self._stored(job_id)
            if mark_of(stored, _MARK) != _digest(letter):
                return
            error = DeadLetterError(letter.reason)
            failed = encode_ended(stored, State.FAILURE, error, without=_MARK)
            if await self._change(job_id, stored, failed):
                return

    async def _stored(self, job_id: str) -> bytes:
        stored: Any = await self._results.get(self._keys.record(job_id))
        return stored or b""

    async def _change(self, job_id: str, before: bytes, after: bytes) -> bool:
        key, ttl = self._keys.record(job_id), self._keys.ttl
        return await compare_and_set(self._results, key, before, after, ttl=ttl)


def _digest(letter: DeadLetter) -> str:
    return sha1(letter.record).hexdigest()[:16]  # noqa: S324 - a name, not a secret
