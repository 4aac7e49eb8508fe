"""Starting, following and cancelling jobs over HTTP, against a real Valkey with no worker."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from service import create_app
from service.parts import parts_of
from service.redis.keys import RECORD, BrokerKeys
from tests.support.records import publish
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

JSON = {"Content-Type": "application/json"}
ADD = "/tasks/demo.my_add"


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
            "SERVICE_MAX_QUEUE": 3,
            "SERVICE_MAX_BODY": 1000,
            "SERVICE_MAX_WAITERS": 2,
            "SERVICE_HEARTBEAT": 0.05,
        }
    )
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client()


async def post(client: Client, body: str | bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.post(ADD, data=body, headers=JSON | named)
    answer: dict[str, Any] = json.loads(await response.get_data())
    assert response.status_code != 500
    if response.status_code >= 400:
        assert response.mimetype == "application/problem+json"
        assert answer["status"] == response.status_code
    return response.status_code, answer


async def test_a_post_starts_a_job(client: Client) -> None:
    """And says where to follow it."""
    response = await client.post(ADD, json={"a": 1, "b": 2})
    assert response.status_code == 202
    accepted = await response.get_json()
    job_id = accepted["id"]
    assert accepted == {
        "id": job_id,
        "state": "QUEUED",
        "result_url": f"/result/{job_id}",
        "events_url": f"/result/{job_id}/events",
    }
    assert response.headers["Location"] == f"/result/{job_id}"
    assert (await client.get(f"/result/{job_id}")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"a": "\xff"}', 400),
        (b'{"a": NaN, "b": 1}', 400),
        (b"[" * 900, 400),
        (b'{"a": 1e999, "b": 1}', 400),
        (b'{"a": "' + b"x" * 1000 + b'"}', 413),
        (b"[]", 422),
        (b"null", 422),
        (b'{"a": 1}', 422),
        (b'{"a": 1, "b": "2"}', 422),
        (b'{"a": 1, "b": 2, "c": 3}', 422),
        (b'{"a": 1, "b": ' + b"[" * 300 + b"]" * 300 + b"}", 422),
    ],
)
async def test_a_body_that_cannot_be_used_is_told(
    client: Client, valkey: Valkey, body: bytes, status: int
) -> None:
    """With its own status, never a 500, and nothing is sent."""
    found, answer = await post(client, body)
    assert found == status, answer
    with valkey.client() as redis:
        assert not redis.exists("celery")
        assert not redis.keys(RECORD + "*")


async def test_a_bad_argument_is_named(client: Client) -> None:
    """For a form that wants to mark its field."""
    _, answer = await post(client, '{"a": 1, "b": "2"}')
    assert answer["argument"] == "b"
    assert "int" in answer["reason"]


@pytest.mark.parametrize("name", ["nobody.knows", "sample.add", "x" * 500, "%00"])
async def test_unknown_and_private_tasks_are_the_same_404(client: Client, name: str) -> None:
    """What is private is not even told to be there."""
    assert (await client.post(f"/tasks/{name}", json={})).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
async def test_only_plain_json_is_taken(client: Client, headers: dict[str, str]) -> None:
    """A form of another site could send anything else."""
    response = await client.post(ADD, data=b'{"a":1,"b":2}', headers=headers)
    assert response.status_code == 415


async def test_an_idempotency_key_gives_one_job(client: Client, valkey: Valkey) -> None:
    """For the same arguments; other ones are a mistake."""
    answers = await asyncio.gather(
        *(post(client, '{"a": 1, "b": 2}', Idempotency_Key="k") for _ in range(5))
    )
    answers.append(await post(client, '{"b": 2, "a": 1}', Idempotency_Key="k"))
    assert {status for status, _ in answers} == {202}
    assert len({answer["id"] for _, answer in answers}) == 1
    with valkey.client() as redis:
        assert redis.llen("celery") == 1
        publish(redis, answers[0][1]["id"], "SUCCESS")
        assert all(redis.ttl(key) > 0 for key in redis.keys("service-*"))
    assert (await post(client, '{"a": 1, "b": 2}', Idempotency_Key="k"))[1]["state"] == "SUCCESS"
    assert (await post(client, '{"a": 1, "b": 3}', Idempotency_Key="k"))[0] == 422
    assert (await post(client, '{"a": 1, "b": 3}', Idempotency_Key="k" * 256))[0] == 400


async def test_a_job_is_given_tags(client: Client, valkey: Valkey) -> None:
    """By the address, within the same limits as from Python."""
    arguments, key = {"a": 1, "b": 2}, {"Idempotency-Key": "k"}
    for headers in ({}, key, key):
        answer = await client.post(f"{ADD}?tag=import&tag=ada", json=arguments, headers=headers)
        assert answer.status_code == 202
        job = (await answer.get_json())["id"]
        with valkey.client() as redis:
            stored = json.loads(str(redis.get(f"{RECORD}{job}")))
            sent = json.loads(str(redis.lindex("celery", 0)))
        assert stored["tags"] == sent["headers"]["tags"] == ["import", "ada"]
    assert (await client.post(ADD, json=arguments, headers=key)).status_code == 422
    for wrong in ("tag=", f"tag={'x' * 51}", "tag=%0a", "&".join(f"tag={n}" for n in range(11))):
        answer = await client.post(f"{ADD}?{wrong}", json=arguments)
        assert answer.status_code == 400
        assert "tags" in (await answer.get_json())["detail"]
    assert (await client.post(f"{ADD}?other=1", json=arguments)).status_code == 202


async def test_a_full_queue_is_a_429(client: Client) -> None:
    """Until it is shorter."""
    for _ in range(3):
        assert (await post(client, '{"a": 1, "b": 2}'))[0] == 202
    response = await client.post(ADD, json={"a": 1, "b": 2})
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0


async def test_the_jobs_of_a_paused_task_count_as_waiting(client: Client, valkey: Valkey) -> None:
    """Or they would fill Redis while nobody runs them."""
    keys = BrokerKeys()
    paused = keys.list_of_paused("celery", "demo.my_add")
    for _ in range(2):
        assert (await post(client, '{"a": 1, "b": 2}'))[0] == 202
    with valkey.client() as redis:
        redis.rename("celery", paused)
        redis.hset(keys.paused_lists, mapping={paused: "celery", "of another": "other"})
    assert (await post(client, '{"a": 1, "b": 2}'))[0] == 202
    assert (await post(client, '{"a": 1, "b": 2}'))[0] == 429


async def test_a_queued_job_is_cancelled_at_once(client: Client, valkey: Valkey) -> None:
    """And whoever waits for it learns that."""
    _, accepted = await post(client, '{"a": 1, "b": 2}')
    url = accepted["result_url"]
    waiting = asyncio.create_task(client.get(f"{url}?wait=20"))
    await wait_until_async(lambda: subscribed(valkey), description="it waits")
    response = await client.delete(url)
    assert response.status_code == 200
    assert (await response.get_json())["state"] == "REVOKED"
    told = await (await waiting).get_json()
    assert (told["state"], told["task"]) == ("REVOKED", "demo.my_add")
    assert (await client.delete(url)).status_code == 409
    assert (await client.delete("/result/nobody")).status_code == 404
    with valkey.client() as redis:
        assert redis.ttl(RECORD + accepted["id"]) > 0


async def test_a_cancellation_that_none_can_hear_of_is_none(client: Client, valkey: Valkey) -> None:
    """Where Redis refuses the publish alone: a second try is to cancel it, and to tell of it."""
    _, accepted = await post(client, '{"a": 1, "b": 2}')
    with valkey.client() as redis:
        redis.acl_setuser("default", enabled=True, commands=["-publish"])
        try:
            assert (await client.delete(accepted["result_url"])).status_code == 503
            record = json.loads(str(redis.get(RECORD + accepted["id"])))
            assert (record["status"], redis.ttl(RECORD + accepted["id"]) > 0) == ("QUEUED", True)
        finally:
            redis.acl_setuser("default", enabled=True, categories=["+@all"])
    assert (await client.delete(accepted["result_url"])).status_code == 200


def subscribed(valkey: Valkey) -> int:
    with valkey.client() as redis:
        return len(redis.pubsub_channels())


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "x", "inf"])
async def test_a_wait_is_at_most_a_minute(client: Client, wait: str) -> None:
    """Told, and not cut in silence."""
    assert (await client.get(f"/result/one?wait={wait}")).status_code == 400


async def test_a_wait_ends_with_the_change_or_its_time(client: Client, valkey: Valkey) -> None:
    """Counted from what the client has, where it says so."""
    with valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        first = await client.get("/result/one?wait=0.1")
        assert (await first.get_json())["state"] == "QUEUED"
        tag = first.headers["ETag"]
        for known in (tag, f"W/{tag}"):  # a proxy that compresses makes it weak
            same = await client.get("/result/one?wait=0.1", headers={"If-None-Match": known})
            assert same.status_code == 304
        assert await same.get_data() == b""
        waiting = asyncio.create_task(
            client.get("/result/one?wait=20", headers={"If-None-Match": tag})
        )
        await wait_until_async(lambda: subscribed(valkey), description="it waits")
        publish(redis, "one", "STARTED")
        assert (await (await waiting).get_json())["state"] == "STARTED"
        late = await client.get("/result/one?wait=20", headers={"If-None-Match": tag})
        assert (await late.get_json())["state"] == "STARTED"
        publish(redis, "one", "SUCCESS")
        ended = await client.get("/result/one?wait=20")
        assert (await ended.get_json())["state"] == "SUCCESS"


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/html,*/*;q=0.8", "text/html"),
        ("application/json;q=0.5,text/event-stream", "text/event-stream"),
        ("image/png", "application/json"),
    ],
)
async def test_the_form_is_that_which_the_client_prefers(
    client: Client, valkey: Valkey, accept: str, mimetype: str
) -> None:
    """One that takes anything gets JSON."""
    with valkey.client() as redis:
        publish(redis, "one", "SUCCESS")
    response = await client.get("/result/one", headers={"Accept": accept})
    assert response.mimetype == mimetype


async def test_a_stream_tells_each_change_until_the_end(client: Client, valkey: Valkey) -> None:
    """With ids, and something now and then to keep the connection."""
    with valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        asking = asyncio.create_task(client.get("/result/one/events"))
        for state in ("STARTED", "PROGRESS", "SUCCESS"):
            await wait_until_async(lambda: subscribed(valkey), description="it follows")
            await asyncio.wait([asking], timeout=0.1)  # for two heartbeats
            publish(redis, "one", state)
    response = await asking
    assert response.mimetype == "text/event-stream"
    text = await response.get_data(as_text=True)
    events = [part for part in text.split("\n\n") if part.startswith("id: ")]
    states = [json.loads(event.split("data: ")[1])["state"] for event in events]
    assert states == ["QUEUED", "STARTED", "PROGRESS", "SUCCESS"]
    assert ": nothing new\n\n" in text
    ids = [event.split("\n")[0].removeprefix("id: ") for event in events]
    assert len(set(ids)) == 4
    again = await client.get("/result/one/events", headers={"Last-Event-ID": ids[1]})
    assert "SUCCESS" in await again.get_data(as_text=True)
    done = await client.get("/result/one/events", headers={"Last-Event-ID": ids[-1]})
    assert done.status_code == 204


async def test_more_waiters_than_may_are_told_to_come_again(
    app: Quart, client: Client, valkey: Valkey
) -> None:
    """And each that ends makes room."""
    with valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    waits = [asyncio.create_task(client.get("/result/one?wait=30")) for _ in range(2)]
    watcher = parts_of(app).watcher
    await wait_until_async(lambda: watcher.waiters == 2, description="they wait")
    refused = await client.get("/result/one/events")
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    with valkey.client() as redis:
        publish(redis, "one", "SUCCESS")
    await asyncio.gather(*waits)
    assert watcher.waiters == 0
    assert (await client.get("/result/one?wait=0.01")).status_code == 200


async def test_the_public_tasks_are_described(client: Client) -> None:
    """The private ones are not."""
    found = {
        task["name"]: task for task in (await (await client.get("/tasks")).get_json())["tasks"]
    }
    assert "sample.add" not in found
    task = found["demo.my_add"]
    assert task["url"] == ADD
    assert task["arguments"]["required"] == ["a", "b"]
    assert task["result"] == {"type": "integer"}


async def test_the_page_of_the_interface_loads_nothing_from_elsewhere(client: Client) -> None:
    """It has to work where there is no way out."""
    text = await (await client.get("/docs")).get_data(as_text=True)
    assert "<code>/tasks/demo.my_add</code>" in text
    assert not re.findall(r"""(?:href|src)\s*=\s*["']?(?:\w+:)?//""", text)


async def test_the_page_of_the_interface_says_what_each_problem_means(client: Client) -> None:
    """Once for all requests."""
    document = await (await client.get("/openapi.json")).get_json()
    routes = [route for path in document["paths"].values() for route in path.values()]
    problems = {status for route in routes for status in route["responses"] if status >= "400"}
    text = await (await client.get("/docs")).get_data(as_text=True)
    assert problems <= {*re.findall(r"<dt>(\d+)</dt>", text)}


@pytest.mark.parametrize("path", ["/result/one/events", "/jobs?id=one"])
async def test_head_of_a_stream_ends(client: Client, valkey: Valkey, path: str) -> None:
    """Its headers are all there is."""
    with valkey.client() as redis:
        publish(redis, "one", "STARTED")
    response = await client.head(path, headers={"Accept": "text/event-stream"})
    assert response.content_type.startswith("text/event-stream")
    assert await response.get_data() == b""


async def test_text_that_no_page_can_have_is_shown_all_the_same(
    client: Client, valkey: Valkey
) -> None:
    """Python reads a file name that is not UTF-8 as half of a surrogate pair."""
    with valkey.client() as redis:
        publish(redis, "one", "SUCCESS", result=["caf\udce9.txt"])
    response = await client.get("/result/one", headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert "caf?.txt" in await response.get_data(as_text=True)
