"""What others wrote into Redis: a record that cannot be read is one job that cannot be shown."""

import asyncio
import json
import logging
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client
from redis import Redis

from tests.support.valkey import Valkey

BROWSER = {"Accept": "text/html"}
DEEP = 900


def done(**changes: Any) -> str:
    record = {"status": "SUCCESS", "result": 3, "traceback": None, "children": []}
    return json.dumps({**record, "name": "demo.my_add", "task_id": "odd", **changes})


def progress(current: Any, total: Any) -> str:
    return done(status="PROGRESS", result={"current": current, "total": total, "note": "x"})


def deep(opening: str, closing: str) -> str:
    return opening * DEEP + "1" + closing * DEEP


RECORDS: dict[str, str | bytes] = {
    "nothing": "",
    "no JSON": "not json",
    "no UTF-8": b'{"status": "SUCCESS", "result": "\xff"}',
    "null": "null",
    "a number": "7",
    "a list": "[]",
    "an empty object": "{}",
    "no status": '{"result": 1}',
    "status is a list": done(status=["SUCCESS"]),
    "status is a number": done(status=1),
    "an unknown status": done(status="DREAMING"),
    "the name is a number": done(name=1),
    "the name has a lone surrogate": done(name="\ud800"),
    "result is not a number": done(result=float("nan")),
    "result is infinite": done(result=[float("inf")]),
    "result has a lone surrogate": done(result="\ud800"),
    "result is deep": done(result="?").replace('"?"', deep("[", "]")),
    "result is deep, of objects": done(result="?").replace('"?"', deep('{"a":', "}")),
    "result is a number of 5000 digits": done(result="?").replace('"?"', "1" * 5000),
    "a tag that is none": done(result={"__type__": "uuid", "__value__": 1}),
    "a tag that cannot be a key": done(result={"__type__": [], "__value__": 1}),
    "all of it is a tag": '{"__type__": "uuid", "__value__": {"hex": "0" }}',
    "all of it is a moment": '{"__type__": "datetime", "__value__": "2020-01-01T00:00:00"}',
    "an error that is a list": done(status="FAILURE", result=[1]),
    "an error of odd parts": done(status="FAILURE", result={"exc_type": [], "exc_message": {}}),
    "a moment without an offset": done(date_done="2020-01-01", started_at="2020-01-01T00:00Z"),
    "the first moment": done(queued_at="0001-01-01T00:00:00+14:00", date_done="0001-01-01"),
    "the last moment": done(date_done="9999-12-31T23:59:59-14:00"),
    "a moment that is a number": done(queued_at=7, started_at=1e308, date_done=[]),
    "arguments that are a list": done(arguments=[1]),
    "arguments of odd names": done(arguments={"": float("nan"), "\ud800": None}),
    "deep arguments": done(arguments="?").replace('"?"', deep('{"a":', "}")),
    "an owner that is a list": done(owner=["me"]),
    "progress of nothing": progress(1, 0),
    "tiny progress": progress(1, 1e-320),
    "progress of a tiny total": progress(1e308, 1e-10),
    "progress beyond floats": progress(10**400, 3),
    "progress of a total beyond floats": progress(3, 10**400),
    "progress that is not a number": progress(float("nan"), float("inf")),
    "progress without parts": done(status="PROGRESS", result=[]),
    "progress of odd parts": progress("1", []),
}


@pytest.fixture
def redis(valkey: Valkey) -> Any:
    with valkey.client() as redis:
        yield redis


async def check_all_answers(client: Client, good: str) -> None:
    """Every way to see or cancel the job `odd`: none fails, and a good job is shown beside it."""
    for path in ("/result/odd", "/result/odd?wait=0.01", "/?job=odd"):
        for headers in ({}, BROWSER):
            if path != "/?job=odd" or headers:
                answer = await client.get(path, headers=headers)
                assert answer.status_code in {200, 404}, path
                if not headers and answer.status_code == 200:
                    strict(await answer.get_data(as_text=True))
    for view in ("card", "page"):
        answer = await client.get(f"/jobs?id=odd&id={good}&view={view}")
        assert answer.status_code == 200
        assert good in [job["id"] for job in (await answer.get_json())["jobs"]]
    seen: Any = client.request("/result/odd/events")
    async with seen as connection:
        await connection.send_complete()
        await asyncio.wait_for(connection.receive(), 10)
        assert connection.status_code in {200, 404}
        await connection.disconnect()
    assert (await client.delete("/result/odd")).status_code in {200, 202, 404, 409}


def strict(text: str) -> Any:
    """JSON as its standard has it, which knows no NaN."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


async def started(client: Client) -> str:
    answer = await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2})
    return str((await answer.get_json())["id"])


async def test_no_record_is_more_than_one_job_that_cannot_be_shown(
    client: Client, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are shown, and nothing is a fault of the server."""
    good = await started(client)
    failed = {}
    for name, record in RECORDS.items():
        redis.set("celery-task-meta-odd", record, ex=60)
        try:
            await check_all_answers(client, good)
        except Exception as error:  # noqa: BLE001  all of them are told at once
            failed[name] = repr(error)[:200]
    assert failed == {}
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    redis.delete("celery-task-meta-odd")
    redis.lpush("celery-task-meta-odd", "a list")
    redis.expire("celery-task-meta-odd", 60)
    await check_all_answers(client, good)
    assert "The record of job 'odd' cannot be read" in caplog.text
