"""What a record says of the attempt that a message asks for."""

import json
from typing import Any

import pytest

from service.results.attempt import Attempt, end_of, is_begun
from service.results.record import encode_queued

BEFORE, SENT, AFTER = (f"2026-01-01T00:00:0{second}+00:00" for second in (1, 2, 3))


def attempt(retries: int = 0, queued_at: str | None = SENT, *, again: bool = False) -> Attempt:
    return Attempt(retries, queued_at, is_redelivered=again)


def record(state: str, retries: int | None = 0, queued_at: str | None = SENT, **more: Any) -> bytes:
    fields = {"status": state, "result": None, "retries": retries, "queued_at": queued_at}
    return json.dumps({**fields, "date_done": AFTER, **more}).encode()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY"])
def test_a_copy_of_a_message_whose_attempt_has_ended_is_known(state: str) -> None:
    """Nobody has marked it as one that comes again."""
    found = end_of(attempt(), record(state))
    assert found is not None
    assert found.state == state


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "a state of a task's own"])
def test_a_job_that_runs_is_run_again_but_not_an_earlier_attempt(state: str) -> None:
    """Its worker has died; that of the earlier attempt had sent the retry before."""
    assert end_of(attempt(1, again=True), record(state, 1)) is None
    assert end_of(attempt(0, again=True), record(state, 1)) is not None


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "RETRY", "a state of a task's own"])
@pytest.mark.parametrize("by", ["ada", "", None])
def test_a_job_that_was_cancelled_while_it_ran_does_not_run_again(
    state: str, by: str | None
) -> None:
    """Its worker may have died before it heard of that, or have sent the next attempt."""
    for retries in (0, 1):
        found = end_of(attempt(retries, again=True), record(state, cancelled_by=by))
        assert found is not None
        assert (found.state, found.reason) == ("REVOKED", "terminated")
    ended = end_of(attempt(), record("SUCCESS", cancelled_by=by))
    assert ended is not None
    assert ended.state == "SUCCESS"


def test_a_retry_is_not_taken_for_the_attempt_before() -> None:
    """Whether that one waits for it, or has ended for good all the same."""
    for state in ("RETRY", "SUCCESS", "FAILURE"):
        assert end_of(attempt(1, again=True), record(state, 0)) is None
    assert end_of(attempt(1), record("REVOKED", 0)) is not None


def test_another_call_of_an_id_runs() -> None:
    """It was queued at another time; a stock client does not say when."""
    for call in (attempt(queued_at=AFTER), attempt(queued_at=BEFORE), attempt(queued_at=None)):
        assert end_of(call, record("SUCCESS")) is None
        assert end_of(call, record("STARTED", 1)) is None


def test_a_message_that_comes_again_was_sent_before_the_end() -> None:
    """So it was when the job was replaced, and when a stock worker has run it."""
    for queued_at in (BEFORE, None):
        known = record("SUCCESS", None, queued_at)
        assert end_of(attempt(again=True), known) is not None
    assert end_of(attempt(queued_at=None, again=True), record("SUCCESS")) is not None
    late = record("SUCCESS", queued_at=BEFORE, date_done=BEFORE)
    assert end_of(attempt(again=True), late) is None


def test_a_stock_workers_retry_tells_of_no_attempt() -> None:
    """Its record does not say which one it is of."""
    assert end_of(attempt(queued_at=None, again=True), record("RETRY", None, None)) is None


@pytest.mark.parametrize("error", ["DeadLetterError", "Reject"])
def test_a_dead_letter_that_comes_again_was_put_back(error: str) -> None:
    """So it is to run."""
    assert end_of(attempt(again=True), record("FAILURE", result={"exc_type": error})) is None
    assert end_of(attempt(again=True), record("SUCCESS", result={"exc_type": error})) is not None


@pytest.mark.parametrize(
    "stored", [encode_queued("id", "task", SENT).encode(), b"no JSON", b"[]", b'{"status": []}']
)
def test_a_job_that_waits_is_to_run(stored: bytes) -> None:
    """As one is whose record cannot be read."""
    assert end_of(attempt(again=True), stored) is None


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS"])
def test_an_attempt_that_runs_is_known_to_be_begun(state: str) -> None:
    """Not another attempt, nor another call of the job, nor by what is no record."""
    assert is_begun(attempt(1), record(state, 1))
    assert not is_begun(attempt(1), record(state, 0))
    assert not is_begun(attempt(), record(state, queued_at=AFTER))
    assert not is_begun(attempt(), record("QUEUED"))
    assert not is_begun(attempt(), b"no record")
