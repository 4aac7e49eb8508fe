"""store.lua notes each attempt of a job but the last: in a list beside the record."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from redis import Redis

from service.redis.keys import RECORD, ResultKeys
from service.worker.results.writer import RecordWrite, store_blocking

KEYS: Final = ResultKeys()
SENT: Final = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def store(
    client: Redis, state: str, *, retries: int = 0, began: str | None = "b", **more: Any
) -> None:
    """Store a record of the job "one" as a worker builds it."""
    result = {"exc_type": "ValueError", "exc_message": ["no"]} if state == "RETRY" else None
    record = {"status": state, "result": result, "retries": retries, "queued_at": SENT}
    text = json.dumps({**record, "started_at": began, **more})
    is_final = state in {"SUCCESS", "FAILURE", "REVOKED"}
    ttl = 60 if is_final else 600
    store_blocking(client, RecordWrite(f"{RECORD}one".encode(), text, ttl, final=is_final))


def attempts(client: Redis) -> list[dict[str, Any]]:
    stored: Any = client.lrange(KEYS.attempts("one"), 0, -1)
    return [json.loads(each) for each in stored]


def test_a_job_that_succeeds_at_once_writes_nothing_more(client: Redis) -> None:
    """Its attempt is its record."""
    for state in ("QUEUED", "STARTED", "PROGRESS", "SUCCESS"):
        store(client, state)
    assert client.keys() == [f"{RECORD}one"]
    assert "attempts" not in json.loads(str(client.get(f"{RECORD}one")))


def test_each_retry_leaves_the_attempt_before_it(client: Redis) -> None:
    """With when, where and how it ended; the list lives as long as the record."""
    store(client, "QUEUED", owner="ada")
    for number in range(12):
        if number % 2:  # that a short attempt has started may never be written
            store(client, "STARTED", retries=number, began=f"b{number}")
        trace = {"traceback": "x" * 20_000, "ended_at": f"e{number}", "worker": "w", "queue": "q"}
        store(client, "RETRY", retries=number, began=f"b{number}", **trace)
    assert client.ttl(KEYS.attempts("one")) > 60
    store(client, "SUCCESS", retries=12)
    assert 0 < int(client.ttl(KEYS.attempts("one"))) <= 60
    found = attempts(client)
    assert [each["retries"] for each in found] == [*range(2, 12)]
    last = found[-1]
    assert (last["started_at"], last["ended_at"]) == ("b11", "e11")
    assert (last["worker"], last["queue"], last["state"]) == ("w", "q", "RETRY")
    assert (last["type"], last["message"]) == ("ValueError", "no")
    assert len(last["traceback"]) == 8000
    assert json.loads(str(client.get(f"{RECORD}one")))["attempts"] == 12


def test_an_attempt_whose_worker_has_gone_is_noted(client: Redis) -> None:
    """The same message was delivered again."""
    store(client, "STARTED", began="first", worker="gone")
    store(client, "STARTED", began="second", worker="here")
    assert [(each["state"], each["worker"]) for each in attempts(client)] == [("STARTED", "gone")]


def test_another_call_under_the_same_id_is_no_attempt(client: Redis) -> None:
    """As one whose record expired, or a dead letter that was put back."""
    store(client, "STARTED", began="first")
    store(client, "STARTED", began="second", queued_at="2026-02-02T00:00:00+00:00")
    assert attempts(client) == []


@pytest.mark.parametrize("end", ["REVOKED", "FAILURE"])
def test_an_end_by_the_parent_process_keeps_the_start(client: Redis, end: str) -> None:
    """That process has not started the job. Who has cancelled it stays in the record, too."""
    started = {"status": "STARTED", "cancelled_by": "ada", "result": None, "started_at": SENT}
    client.set(f"{RECORD}one", json.dumps(started), ex=60)
    store(client, end, began=None, arguments={"started_at": None})
    record = json.loads(str(client.get(f"{RECORD}one")))
    assert (record["started_at"], record["cancelled_by"]) == (SENT, "ada")
    assert record["arguments"] == {"started_at": None}
