"""Replays and drops dead letters where the results are on another Redis than the broker.

There it cannot be one step. The record is changed first, and the message moved then: a crash in
between leaves a job that says QUEUED and a letter that can be replayed, or dropped, once more.
The other way round the job would run under its FAILURE, which no result can replace, and there
would be no letter left to begin anew with. Whoever else replays or drops the same letter at the
same time must not be written over: a record is only changed while it is what it was when the
letter was still there, and changed back when the letter turns out to be gone.
"""

from hashlib import sha1
from typing import Any, Final

from service.broker.dead_letters.asking import Asking, of_broker, of_results
from service.broker.dead_letters.model import Box, DeadLetter
from service.errors import DeadLetterError
from service.redis.compare_and_set import COMPARE_AND_SET
from service.redis.keys import ResultKeys
from service.results.model import State
from service.results.record import encode_ended, encode_queued, mark_of, now

_MARK: Final = "replayed_letter"


def ask_to_say_queued(
    box: Box, keys: ResultKeys, letter: DeadLetter, job_id: str
) -> Asking[tuple[bytes, bytes] | None]:
    """Have the record say QUEUED: what it was and what it is now; None if the letter is gone.

    Done before, by somebody who then crashed, it is done again.
    """
    mark = {_MARK: _name(letter)}
    after = encode_queued(job_id, letter.task, now(), marks=mark).encode()
    while True:
        before = yield from _ask_record(keys, job_id)
        # In this order: had the letter been moved before the record was read, it would not be
        # there now, and what a worker has stored since could be taken for what is to be replaced.
        if (yield of_broker("LPOS", box.key(letter.queue), letter.record)) is None:
            return None
        if (yield _change(keys, job_id, before, after)):
            return before, after


def ask_to_take_back(keys: ResultKeys, job_id: str, change: tuple[bytes, bytes]) -> Asking[None]:
    """Undo what `ask_to_say_queued` did, unless the record has changed again."""
    before, after = change
    yield _change(keys, job_id, after, before)


def ask_to_say_failed(keys: ResultKeys, letter: DeadLetter, job_id: str) -> Asking[None]:
    """Have the record say FAILURE where a replay of this letter, which is dropped, broke off."""
    while True:
        stored = yield from _ask_record(keys, job_id)
        if mark_of(stored, _MARK) != _name(letter):
            return
        error = DeadLetterError(letter.reason)
        failed = encode_ended(stored, State.FAILURE, error, without=_MARK)
        if (yield _change(keys, job_id, stored, failed)):
            return


def _ask_record(keys: ResultKeys, job_id: str) -> Asking[bytes]:
    stored = yield of_results("GET", keys.record(job_id))
    return stored or b""


def _change(keys: ResultKeys, job_id: str, before: bytes, after: bytes) -> Any:
    arguments = (before, after, keys.ttl, "")
    return of_results(*COMPARE_AND_SET.whole([keys.record(job_id)], arguments))


def _name(letter: DeadLetter) -> str:
    return sha1(letter.record).hexdigest()[:16]  # noqa: S324 - a name, not a secret
