"""The id of a request travels to the jobs that it starts, and back in the answer."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from quart import Quart

from service import Jobs, create_app
from service.logs.ids import request_id
from service.tasks import demo
from tests.integration.test_mounting import client_of, started
from tests.support.host_app import sell, shop
from tests.support.valkey import Valkey

NAME = "X-Request-ID"


@pytest.fixture(autouse=True)
def no_request() -> Iterator[None]:
    """No test leaves its id to the next."""
    yield
    assert request_id.get() is None


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    async with app.test_app():
        yield app


def sent(valkey: Valkey) -> list[Any]:
    """The ids in the messages of the queue, oldest first, which are forgotten."""
    with valkey.client() as redis:
        messages = redis.lrange("celery", 0, -1)
        redis.delete("celery")
    assert isinstance(messages, list)
    return [json.loads(each)["headers"].get("request_id") for each in reversed(messages)]


async def test_a_job_has_the_id_of_its_request(app: Quart, valkey: Valkey) -> None:
    """And the answer has it; each request has one of its own."""
    client = app.test_client()
    for given in ("r-1", "A.b_c-9", "x" * 128, "r-1"):
        answer = await client.post(
            "/tasks/demo.my_add", json={"a": 1, "b": 2}, headers={NAME: given}
        )
        assert answer.status_code == 202
        assert answer.headers.getlist(NAME) == [given]
        assert sent(valkey) == [given]


@pytest.mark.parametrize(
    "given", [None, "", "x" * 129, "a b", "a\x1b[31m", "<b>", "é", 'a"', "a\u2028b"]
)
async def test_an_id_that_could_do_harm_is_replaced(
    app: Quart, valkey: Valkey, given: str | None
) -> None:
    """It would stand in logs, messages and answers."""
    headers = {} if given is None else {NAME: given}
    answer = await app.test_client().get("/", headers=headers)
    (made,) = sent(valkey)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert answer.headers.getlist(NAME) == [made]


async def test_every_answer_has_it(app: Quart) -> None:
    """Also one of an error, a file, and what is refused before the app."""
    client = app.test_client()
    for path in ("/no/where", "/result/none", "/static/css/base.css", "/docs"):
        answer = await client.get(path, headers={NAME: "r-2"})
        assert answer.headers.getlist(NAME) == ["r-2"], path
    odd = {NAME: "r-3", "Transfer-Encoding": "chunked", "Content-Length": "1"}
    answer = await client.post("/tasks/demo.my_add", headers=odd)
    assert (answer.status_code, answer.headers.getlist(NAME)) == (400, ["r-3"])


async def test_a_job_of_no_request_has_none(app: Quart, valkey: Valkey) -> None:
    """By a template of messages that the two do not share; a host may set the id itself."""
    async with app.app_context():
        await demo.my_add.enqueue(1, 2)
        token = request_id.set('a"\n')
        await demo.my_add.enqueue(1, 2)
        request_id.reset(token)
        await demo.my_add.enqueue(1, 2)
    assert sent(valkey) == [None, 'a"\n', None]


async def test_a_hosts_own_answers_stay_as_they_are(redis_url: str, valkey: Valkey) -> None:
    """Jobs of its own routes have the id that its client gave."""
    host = Quart("host")
    Jobs(host, tasks=[shop], config={"SERVICE_REDIS_URL": redis_url})

    @host.get("/buy")
    async def buy() -> str:
        await sell.enqueue("tea")
        return "bought"

    async with host.test_app():
        client = host.test_client()
        for headers, id_ in (({NAME: "r-4"}, "r-4"), ({NAME: "\x1b"}, None), ({}, None)):
            answer = await client.get("/buy", headers=headers)
            assert NAME not in answer.headers
            assert sent(valkey) == [id_]
        answer = await client.post("/jobs/tasks/shop.sell", json={"item": "tea"})
        assert sent(valkey) == [answer.headers[NAME]]


async def test_the_id_of_asgi_correlation_id_counts(redis_url: str, valkey: Valkey) -> None:
    """It has made one, and puts it into each answer itself."""
    jobs = Jobs(tasks=[shop], config={"SERVICE_REDIS_URL": redis_url})
    host = FastAPI(lifespan=jobs.lifespan)
    host.add_middleware(CorrelationIdMiddleware)
    host.mount("/jobs", jobs.asgi())

    @host.get("/buy")
    async def buy() -> str:
        await sell.enqueue("tea")
        return "bought"

    async with started(host), client_of(host) as client:
        answers = [
            await client.get("/buy"),
            await client.post("/jobs/tasks/shop.sell", json={"item": "tea"}),
        ]
    assert [[each.headers[NAME]] for each in answers] == [[id_] for id_ in sent(valkey)]
    assert [len(each.headers.get_list(NAME)) for each in answers] == [1, 1]
