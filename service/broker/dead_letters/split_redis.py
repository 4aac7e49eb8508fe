"""Replays and drops dead letters where the results are on another Redis than the broker.

There it cannot be one step. The record is changed first, and the message moved then: a crash in
between leaves a job that says QUEUED and a letter that can be replayed, or dropped, once more.
The other way round the job would run under its FAILURE, which no result can replace, and there
would be no letter left to begin anew with. Whoever else replays or drops the same letter at the
same time must not be written over: a record is only changed while it is what it was when the
letter was still there, and changed back when the letter turns out to be gone.
"""

import json
from hashlib import sha1
from typing import Any, Final

from service.broker.dead_letters.asking import Asking, of_broker, of_results
from service.broker.dead_letters.model import Box, DeadLetter
from service.broker.scripts import script
from service.errors import DeadLetterError
from service.results.model import State, now
from service.results.records import Records, ended_record, queued_record

_ERROR: Final = (DeadLetterError.__module__, DeadLetterError.__name__)
_MARK: Final = "replayed_letter"


def ask_to_say_queued(
    box: Box, records: Records, letter: DeadLetter, job_id: str
) -> Asking[tuple[bytes, bytes] | None]:
    """Have the record say QUEUED: what it was and what it is now; None if the letter is gone.

    Done before, by somebody who then crashed, it is done again.
    """
    mark = {_MARK: _name(letter)}
    after = json.dumps({**queued_record(job_id, letter.task, now()), **mark}).encode()
    while True:
        before = yield from _ask_record(records, job_id)
        # In this order: had the letter been moved before the record was read, it would not be
        # there now, and what a worker has stored since could be taken for what is to be replaced.
        if (yield of_broker("LPOS", box.key(letter.queue), letter.record)) is None:
            return None
        if (yield _change(records, job_id, before, after)):
            return before, after


def ask_to_take_back(records: Records, job_id: str, change: tuple[bytes, bytes]) -> Asking[None]:
    """Undo what `ask_to_say_queued` did, unless the record has changed again."""
    before, after = change
    yield _change(records, job_id, after, before)


def ask_to_say_failed(records: Records, letter: DeadLetter, job_id: str) -> Asking[None]:
    """Have the record say FAILURE where a replay of this letter, which is dropped, broke off."""
    while True:
        stored = yield from _ask_record(records, job_id)
        meta = _read(stored)
        if meta.get("status") != State.QUEUED.value or meta.get(_MARK) != _name(letter):
            return
        del meta[_MARK]
        failed = ended_record(meta, State.FAILURE, _ERROR, letter.reason)
        if (yield _change(records, job_id, stored, failed)):
            return


def _ask_record(records: Records, job_id: str) -> Asking[bytes]:
    stored = yield of_results("GET", records.key(job_id))
    return stored or b""


def _change(records: Records, job_id: str, before: bytes, after: bytes) -> Any:
    key, text = records.key(job_id), script("change_record")
    return of_results("EVAL", text, 1, key, before, after, records.lifetime)


def _name(letter: DeadLetter) -> str:
    return sha1(letter.record).hexdigest()[:16]  # noqa: S324 - a name, not a secret


def _read(stored: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(stored)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}
