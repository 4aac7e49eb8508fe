"""A message that cannot be run ends as FAILURE or dead letter, and ends no worker."""

import base64
import json
from typing import Any

import pytest
from redis import Redis

from tests.support.broker import MAINLY_ASYNCIO, TASKS, Bench, ready
from tests.support.wait import wait_until

pytestmark = pytest.mark.parametrize("pool", MAINLY_ASYNCIO)


def _message(body: Any, headers: Any = None, **properties: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return json.dumps(
        {
            "body": base64.b64encode(text.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": "1",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": f"tag-{len(text)}",
                **properties,
            },
        }
    )


def _body(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _job(args: str = "[]", *, task: str = f"{TASKS}.noop", **changes: Any) -> str:
    headers = {"lang": "py", "task": task, "id": "bad-job", "retries": 0, "eta": None}
    return _message(f"[{args}, {{}}, {{}}]", {**headers, "argsrepr": "", **changes})


WITHOUT_ARGUMENTS = {
    "kwargs are null": _job().replace(_body("[[], {}, {}]"), _body("[[], null, {}]")),
    "args are null": _job("null"),
    "the id is a number": _job(id=7),
}
MESSAGES: dict[str, str | bytes] = {
    "not JSON": "not json",
    "a list": "[]",
    "an empty object": "{}",
    "not text": b"\xff\xfe\x00",
    "no delivery tag": '{"body": "", "headers": {"id": "bad-job"}, "properties": {}}',
    "a tag that is not text": _job().encode().replace(b'"tag-', b'"t\xffg-'),
    "not Celery's": _message({"hello": "world"}, {}),
    "no headers": _message([[], {}, {}], None),
    "body is not base64": _job().replace('"body": "', '"body": "A'),
    "unknown task": _job(task="nobody.knows"),
    "nested 2000 deep": _job("[" * 2000 + "]" * 2000),
    "nested 600 deep": _job("[" * 600 + "]" * 600),
    "nested 2000 deep outside": _job(extra=0).replace(
        '"extra": 0', '"x":' + "[" * 2000 + "]" * 2000
    ),
    "unknown __type__": _job('[{"__type__": "x", "__value__": 1}]'),
    "unknown __type__ in the headers": _job(extra={"__type__": "x", "__value__": 1}),
    "no number in the headers": _job(extra={"__type__": "decimal", "__value__": "x"}),
    "no number outside": _job().replace(
        '"priority": 0', '"priority": {"__type__": "decimal", "__value__": "x"}'
    ),
    "all named arguments are a tag": _job().replace(
        _body("[[], {}, {}]"),
        _body('[[], {"__type__": "uuid", "__value__": {"hex": "0"}}, {}]'),
    ),
    "protocol 9": _message({"protocol": 9, "id": "bad-job"}, {"protocol": 9}),
    "old protocol without a task": _message({"id": "bad-job", "args": []}, {}),
    "10 MB": _job(json.dumps("x" * 10_000_000)),
    "pickle": _job().replace("application/json", "application/x-python-serialize"),
    "unknown compression": _job(compression="application/x-nothing"),
    "no id": _message([[], {}, {}], {"task": f"{TASKS}.noop"}),
}


def test_a_bad_message_is_put_aside_and_the_worker_goes_on(bench: Bench, pool: str) -> None:
    """Stock Celery: five of nine end the worker, and then the next worker, for ever."""
    with bench.worker(pool=pool, concurrency=2) as worker:
        ready(worker)
        for name, message in MESSAGES.items():
            bench.redis.delete("celery.dead", "celery-task-meta-bad-job")
            bench.redis.lpush("celery", message)
            wait_until(
                lambda: bench.redis.llen("celery.dead") or bench.state("bad-job"),
                description=f"{name}: dead letter or FAILURE",
            )
            good = bench.send("work", name.replace(" ", "-"))
            bench.wait_for(good)
            wait_until(lambda: not bench.redis.exists("unacked"), description="nothing is held")
            assert worker.returncode is None
            letters = [json.loads(letter) for letter in _letters(bench)]
            if '"bad-job"' in str(message):
                bench.wait_for("bad-job", "FAILURE")
            for letter in letters:
                assert set(letter) == {"message", "queue", "reason", "deliveries", "at"}
                assert letter["queue"] == "celery"
                assert letter["reason"]


def test_a_message_of_the_wrong_types_fails_the_job_that_waits_for_it(
    bench: Bench, pool: str
) -> None:
    """Whoever follows it would wait for ever."""
    with bench.worker(pool=pool, concurrency=1) as worker:
        ready(worker)
        for name, message in WITHOUT_ARGUMENTS.items():
            job_id = str(json.loads(message)["headers"]["id"])
            queued = json.dumps({"status": "QUEUED", "result": None})
            bench.redis.set(f"celery-task-meta-{job_id}", queued, ex=60)
            bench.redis.lpush("celery", message)
            bench.wait_for(job_id, "FAILURE")
            assert worker.returncode is None, name


def _letters(bench: Bench) -> list[str]:
    with Redis.from_url(bench.url) as raw:  # not all of them are text
        found = raw.lrange("celery.dead", 0, -1)
    return [bytes(item).decode("utf-8", "surrogateescape") for item in found if item]


def test_text_that_only_python_can_read_is_an_argument_like_others(bench: Bench, pool: str) -> None:
    """The name of a file that is not UTF-8 has half of a surrogate pair in it."""
    with bench.worker(pool=pool, concurrency=1) as worker:
        ready(worker)
        job = bench.send("echo", "caf\udce9.txt")
        bench.wait_for(job)
        assert bench.result(job)["result"] == "caf\udce9.txt"
