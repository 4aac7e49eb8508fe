"""The HTTP contract, against a real Valkey with no worker."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from service import create_app
from service.redis.keys import RECORD
from tests.support.valkey import Valkey

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client()


def store(valkey: Valkey, job_id: str, **meta: object) -> None:
    record = {"status": "SUCCESS", "result": None, "task_id": job_id, **meta}
    with valkey.client() as redis:
        redis.set(RECORD + job_id, json.dumps(record), ex=60)


async def test_the_front_page_starts_a_job_for_a_client(client: Client) -> None:
    """Whose id is known from that moment on."""
    response = await client.get("/")
    assert response.status_code == 200
    body = await response.get_json()
    assert body == {
        "message": "Hello, world!",
        "id": body["id"],
        "result_url": f"/result/{body['id']}",
    }
    result = await client.get(body["result_url"])
    assert result.status_code == 200
    assert result.headers["Cache-Control"] == "no-store"
    assert result.headers["Retry-After"] == "1"
    queued = await result.get_json()
    assert queued.pop("queued_at") is not None
    assert queued == {
        "id": body["id"],
        "task": "demo.my_add",
        "state": "QUEUED",
        "ready": False,
        "successful": False,
        "result": None,
        "error": None,
        "progress": None,
        "started_at": None,
        "finished_at": None,
    }


async def test_a_browser_gets_pages(client: Client, valkey: Valkey) -> None:
    """By what it says that it accepts."""
    page = await client.get("/", headers=BROWSER)
    assert page.mimetype == "text/html"
    text = await page.get_data(as_text=True)
    assert "Hello, world!" in text
    store(valkey, "one", result="<script>alert(1)</script>")
    text = await (await client.get("/result/one", headers=BROWSER)).get_data(as_text=True)
    assert "<script>alert" not in text
    missing = await client.get("/result/none", headers=BROWSER)
    assert (missing.status_code, missing.mimetype) == (404, "text/html")


@pytest.mark.parametrize(
    ("headers", "mimetype"), [({}, "application/json"), (BROWSER, "text/html")]
)
async def test_a_head_request_starts_nothing(
    client: Client, valkey: Valkey, headers: dict[str, str], mimetype: str
) -> None:
    """A monitor that asks every ten seconds whether the site is up is not meant to."""
    response = await client.head("/", headers=headers)
    assert (response.status_code, response.mimetype) == (200, mimetype)
    assert not await response.get_data()
    assert response.headers["Cache-Control"] == "no-store"
    with valkey.client() as redis:
        assert not redis.llen("celery")


async def test_a_head_request_is_told_that_redis_is_away(own_valkey: Valkey) -> None:
    """Else a monitor would see nothing of it."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url})
    async with app.test_app():
        own_valkey.kill()
        assert (await app.test_client().head("/")).status_code == 503


async def test_a_head_request_is_not_told_a_length(app: Quart) -> None:
    """That would be GET's. (Quart's test client makes one up.)"""
    sent: list[Any] = []

    received: asyncio.Queue[Any] = asyncio.Queue()
    received.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            received.put_nowait({"type": "http.disconnect"})  # as servers do once it is answered

    scope: Any = {"type": "http", "method": "HEAD", "path": "/", "raw_path": b"/", "headers": []}
    more: Any = {"asgi": {}, "http_version": "1.1", "scheme": "http", "query_string": b""}
    await app(scope | more, received.get, send)
    assert sent[0]["status"] == 200
    assert b"content-length" not in dict(sent[0]["headers"])


async def test_a_failed_job_is_not_a_failed_request(client: Client, valkey: Valkey) -> None:
    """It is a 200 that says FAILURE, and never shows a traceback."""
    store(
        valkey,
        "bad",
        status="FAILURE",
        result={"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"},
        traceback="File /secret",
    )
    response = await client.get("/result/bad")
    assert response.status_code == 200
    assert "Retry-After" not in response.headers
    body = await response.get_json()
    assert (body["state"], body["ready"], body["successful"]) == ("FAILURE", True, False)
    assert body["error"] == {"type": "ValueError", "message": "no"}
    assert "secret" not in await response.get_data(as_text=True)


@pytest.mark.parametrize("job_id", ["never-enqueued", "x" * 65, "%00", "a%2Fb"])
async def test_an_unknown_id_is_a_404(client: Client, job_id: str) -> None:
    """Never "pending for ever", as Celery has it."""
    response = await client.get(f"/result/{job_id}")
    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"
    problem = json.loads(await response.get_data(as_text=True))
    assert problem["status"] == 404
    assert problem["title"] == "Not Found"
    assert problem["detail"]


async def test_errors_of_the_framework_are_problem_details_too(client: Client) -> None:
    """One form for all, with the headers that belong to a status."""
    response = await client.post("/result/one")
    assert (response.status_code, response.mimetype) == (405, "application/problem+json")
    assert "GET" in response.headers["Allow"]


async def test_a_fault_of_ours_is_a_500_without_internals(
    app: Quart, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it; the answer has not."""

    @app.get("/fault")
    async def fault() -> str:
        raise RuntimeError("password=hunter2")

    response = await client.get("/fault")
    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert "hunter2" not in await response.get_data(as_text=True)
    assert "hunter2" in caplog.text


async def test_every_record_is_dropped_in_time(client: Client, valkey: Valkey) -> None:
    """A job that nobody ever runs must not fill Redis for ever."""
    body = await (await client.get("/")).get_json()
    with valkey.client() as redis:
        lifetime = redis.ttl(RECORD + body["id"])
        assert redis.llen("celery") == 1
    assert 86_400 < lifetime <= 365 * 86_400  # while it waits; a day after its end


@pytest.mark.parametrize("cookie", ["9" * 5000 + ".x", "x", ".", "1.y"])
async def test_a_made_up_cookie_is_no_fault_of_the_server(redis_url: str, cookie: str) -> None:
    """Python refuses to read a number of that many digits."""
    token = "a-token-for-the-test"  # noqa: S105
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": token})
    async with app.test_app():
        client = app.test_client()
        response = await client.get("/dashboard", headers={"Cookie": f"service_admin={cookie}"})
        assert response.status_code < 500


async def test_a_full_queue_is_told_at_every_door(redis_url: str) -> None:
    """The front page, too, takes no more jobs than may wait."""
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_MAX_QUEUE": 1})
    async with app.test_app():
        client = app.test_client()
        assert (await client.get("/")).status_code == 200
        for headers in ({}, BROWSER):
            refused = await client.get("/", headers=headers)
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0


async def test_the_garbage_collector_passes_over_a_served_app(redis_url: str) -> None:
    """A full pass over its modules takes 50 ms, in which no request is served."""
    heard: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    serving = asyncio.create_task(app(scope, told.get, heard.put))  # type: ignore[arg-type]  # dicts
    await told.put({"type": "lifespan.startup"})
    assert (await heard.get())["type"] == "lifespan.startup.complete"
    assert gc.get_freeze_count() > 10_000
    await told.put({"type": "lifespan.shutdown"})
    assert (await heard.get())["type"] == "lifespan.shutdown.complete"
    await serving
    assert gc.get_freeze_count() == 0
