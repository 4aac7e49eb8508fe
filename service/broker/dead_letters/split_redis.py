"""Changes the records of dead letters where the results are on another Redis than the broker.

There it cannot be one step. The record is changed first, and the message moved then: a crash in
between leaves a job that says QUEUED and a letter that can be replayed, or dropped, once more.
The other way round the job would run under its FAILURE, which no result can replace, and there
would be no letter left to begin anew with. Another person may replay or drop the same letter at
the same time: so a record is only changed while it is what it was when the letter was still
there, and is changed back when the letter turns out to be gone.
"""

import json
from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis

from service.broker.dead_letters.model import DeadLetter
from service.broker.scripts import script
from service.errors import DeadLetterError
from service.results.model import State, now
from service.results.records import Records, ended_record, queued_record

_ERROR: Final = (DeadLetterError.__module__, DeadLetterError.__name__)
_MARK: Final = "replayed_letter"


class SplitRecords:
    """The records of dead letters' jobs. Every method raises RedisError."""

    def __init__(self, results: Redis, records: Records) -> None:
        self._results: Any = results
        self._records = records

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
        after = json.dumps({**queued_record(job_id, letter.task, now()), **mark}).encode()
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
            meta = _mapping(stored)
            if meta.get("status") != State.QUEUED.value or meta.pop(_MARK, "") != _digest(letter):
                return
            failed = ended_record(meta, State.FAILURE, _ERROR, letter.reason)
            if await self._change(job_id, stored, failed):
                return

    async def _stored(self, job_id: str) -> bytes:
        return await self._results.get(self._records.key(job_id)) or b""

    async def _change(self, job_id: str, before: bytes, after: bytes) -> bool:
        arguments = (self._records.key(job_id), before, after, self._records.lifetime)
        return bool(await self._results.eval(script("change_record"), 1, *arguments))


def _digest(letter: DeadLetter) -> str:
    return sha1(letter.record).hexdigest()[:16]  # noqa: S324 - a name, not a secret


def _mapping(stored: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(stored)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}
