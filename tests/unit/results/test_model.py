"""Stored records are decoded as what they are, whoever wrote them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from kombu.utils.json import dumps

from service.results.decoding import decode
from service.results.model import JobError, Progress, Result, State, is_job_id
from service.web.jobs.views import as_json


def decoded(**meta: Any) -> Result:
    return decode("id-1", json.dumps({"status": "SUCCESS", "result": None, **meta}))


def test_a_record_of_stock_celery_is_read() -> None:
    """It has neither the task nor the times that ours has."""
    result = decoded(result=[1], date_done="2026-01-02T03:04:05+00:00")
    assert (result.state, result.result, result.task) == (State.SUCCESS, [1], None)
    assert result.finished_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert result.queued_at is result.started_at is None


def test_a_failure_is_told_without_its_traceback() -> None:
    """Celery stores the exception's arguments as a list."""
    value = {"exc_type": "KeyError", "exc_message": ["a", 1], "exc_module": "builtins"}
    result = decoded(status="FAILURE", result=value, traceback="File /secret")
    assert result.error == JobError("KeyError", "a, 1")
    assert result.result is None
    assert "secret" not in repr(result)


def test_what_celery_calls_pending_or_received_is_queued() -> None:
    """For us there are no unknown jobs among the stored ones."""
    assert decoded(status="PENDING").state is State.QUEUED
    assert decoded(status="RECEIVED").state is State.QUEUED


def test_a_state_of_the_tasks_own_is_a_running_job() -> None:
    """Celery lets `update_state` store any word."""
    result = decoded(status="UPLOADING", result={"percent": 3})
    assert (result.state, result.result, result.ready) == (State.STARTED, None, False)


def test_progress_is_read_from_celerys_own_form_too() -> None:
    """`update_state(state="PROGRESS", meta={...})` is what Celery's documentation shows."""
    value = {"current": 2, "total": 5, "note": "two"}
    assert decoded(status="PROGRESS", result=value).progress == Progress(2, 5, "two")
    assert decoded(status="PROGRESS", result={"done": True}).progress is None
    assert decoded(status="PROGRESS", result={"current": True}).progress is None


@pytest.mark.parametrize("stored", ["", "[]", "null", "not json", b"\xff"])
def test_what_is_no_record_is_a_value_error(stored: str | bytes) -> None:
    """One error for whatever somebody put there."""
    with pytest.raises(ValueError):  # noqa: PT011  json's own errors are of this type
        decode("id-1", stored)


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "x" * 65, "é", "a\n", "*", ".", "..", ".\n"])
def test_what_cannot_be_an_id_is_not_asked_for(job_id: str) -> None:
    """It would be a key in Redis, and a part of an address: browsers leave out `.` and `..`."""
    assert not is_job_id(job_id)


@pytest.mark.parametrize("job_id", ["...", ".a", "a..", "..a", "-", "_"])
def test_dots_may_be_in_an_id(job_id: str) -> None:
    """Only alone do they mean something in an address."""
    assert is_job_id(job_id)


def test_what_kombu_stores_in_a_form_of_its_own_is_what_it_was() -> None:
    """Dates, decimals and UUIDs; over HTTP they are the texts that a schema promises."""
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "sum": Decimal("1.10"), "id": UUID(int=1)}
    stored = dumps({"status": "SUCCESS", "result": [value]})
    result = decode("id-1", stored.encode())
    assert result.result == [value]
    assert as_json(result)["result"] == [
        {"at": "2026-01-02T00:00:00Z", "sum": "1.10", "id": str(UUID(int=1))}
    ]


def test_what_only_looks_like_it_is_left_alone() -> None:
    """Somebody may have registered a type that this process does not know."""
    for name, value in (("money", 3), ("bytes", 5), ("uuid", {"hex": 5}), ("datetime", [])):
        shape: dict[str, object] = {"__type__": name, "__value__": value}
        assert decoded(result=shape).result == shape
