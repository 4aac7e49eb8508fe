"""Tells by a job's record whether the attempt that a message asks for has ended before."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from service.errors import DeadLetterError
from service.results.marks import CANCELLED_BY
from service.results.model import TERMINAL, State


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt of a job that a message asks for; `retries` is its number, from 0.

    A message and its copies say when the job was `queued_at`, and so do those of its retries; a
    message that replaces the job, or asks for its id anew, says another time. Messages of stock
    clients do not say it.
    """

    retries: int
    queued_at: str | None
    is_redelivered: bool


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended: as RETRY, or with its job; `result` is what the record has, as JSON.

    `reason` is why a job is revoked, in a word of Celery's or of our own cancelling.
    """

    state: State
    result: Any
    traceback: str | None
    reason: str = "cancelled"


_ENDS: Final = {state.value: state for state in (*TERMINAL, State.RETRY)}
_RUNNING: Final = (State.STARTED.value, State.PROGRESS.value)
# Errors of jobs whose messages are given up, and may be put back by hand: ours, and Celery's.
_OF_DEAD_LETTERS: Final = frozenset({DeadLetterError.__name__, "Reject"})


def end_of(attempt: Attempt, stored: bytes) -> AttemptEnd | None:
    """How the record says that the attempt ended; None where it is to run.

    A cancellation ends all attempts, also where the job was running: its worker may not have heard
    of it. Of any other end the message may know nothing: it may be a new call under an old id, a
    retry that was sent before a job ended well all the same, or a dead letter that somebody has put
    back into the queue.
    """
    try:
        record = json.loads(stored)
        state = _ENDS.get(record["status"])
    except (ValueError, TypeError, LookupError):
        return None  # not a record: the job's end will replace it
    if state not in TERMINAL and CANCELLED_BY in record:
        return AttemptEnd(State.REVOKED, None, None, reason="terminated")
    if state is State.REVOKED or _is_over(attempt, state, record):
        return AttemptEnd(state or State.RETRY, record.get("result"), record.get("traceback"))
    return None


def is_begun(attempt: Attempt, stored: bytes) -> bool:
    """Whether the record says that the attempt was begun, and has not ended."""
    try:
        record = json.loads(stored)
        is_same = record["queued_at"] == attempt.queued_at and record["retries"] == attempt.retries
        return is_same and record["status"] in _RUNNING
    except (ValueError, TypeError, LookupError):
        return False


def _is_over(attempt: Attempt, state: State | None, record: dict[str, Any]) -> bool:
    """Whether the attempt has ended, by the record of a job that was not cancelled."""
    if attempt.queued_at is None:
        is_told_of = attempt.is_redelivered
    else:
        is_told_of = attempt.queued_at == record.get("queued_at")
    retries = record.get("retries")
    if state in TERMINAL:
        if isinstance(retries, int) and retries < attempt.retries:
            return False
        is_replaced = attempt.is_redelivered and _was_queued_before_the_end(attempt, record)
        return (is_told_of or is_replaced) and not _is_of_dead_letter(record)
    if not is_told_of or not isinstance(retries, int):
        return False
    return retries > attempt.retries or (retries == attempt.retries and state is State.RETRY)


def _was_queued_before_the_end(attempt: Attempt, record: dict[str, Any]) -> bool:
    try:
        ended = datetime.fromisoformat(record["date_done"])
        return datetime.fromisoformat(attempt.queued_at or "") <= ended
    except (KeyError, TypeError, ValueError):
        return False


def _is_of_dead_letter(record: dict[str, Any]) -> bool:
    error = record.get("result") if record["status"] == State.FAILURE.value else None
    return isinstance(error, dict) and error.get("exc_type") in _OF_DEAD_LETTERS
