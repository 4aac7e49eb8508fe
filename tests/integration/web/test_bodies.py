"""Bodies that do not say how long they are: bounded in size and time, in a host's app as well."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart, request

from service import Jobs
from tests.support.host_app import shop

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
ADDRESSES = [
    ("/tasks/shop.sell", JSON),
    ("/start/shop.sell", FORM),
    ("/dashboard/sign-in", FORM),
]


@pytest.fixture
def body_timeout() -> float:
    """Seconds; for those who wait for them in vain a test asks for fewer."""
    return 20


@pytest.fixture(params=[False, True], ids=["host", "own"])
async def app(
    request: pytest.FixtureRequest, redis_url: str, body_timeout: float
) -> AsyncIterator[Quart]:
    """An app that is a host of jobs, or one of jobs alone; the host itself takes any body."""
    settings = {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_ADMIN_TOKEN": TOKEN,
        "SERVICE_MAX_BODY": 3_000,
        "SERVICE_BODY_TIMEOUT": body_timeout,
    }
    app = Quart("host")
    app.config["MAX_CONTENT_LENGTH"] = None
    Jobs(app, url_prefix="", tasks=[shop], config=settings, whole_app=request.param)
    app.post("/upload")(upload)
    async with app.test_app():
        yield app


async def upload() -> dict[str, int]:
    """A route of the host's own."""
    return {"size": len(await request.get_data())}


async def answer_to(
    app: Quart, path: str, headers: dict[str, str], *pieces: bytes, ends: bool
) -> int:
    """The status of the answer to a body in pieces, which ends, or does not."""
    client: Any = app.test_client(use_cookies=False)
    async with client.request(path, method="POST", headers=headers) as connection:
        for piece in pieces:
            await connection.send(piece)
        if ends:
            await connection.send_complete()
        await connection.receive()
        await connection.disconnect()
    return int(connection.status_code)


@pytest.mark.parametrize(("path", "headers"), ADDRESSES)
async def test_a_long_body_is_not_read_to_its_end(
    app: Quart, path: str, headers: dict[str, str]
) -> None:
    """It may have none: what was read would be kept until the client leaves."""
    assert await answer_to(app, path, headers, *[b"x" * 1000] * 4, ends=False) == 413


@pytest.mark.parametrize("body_timeout", [0.3])
@pytest.mark.parametrize(("path", "headers"), ADDRESSES)
async def test_a_body_that_says_itself_that_it_is_long_is_not_waited_for(
    app: Quart, path: str, headers: dict[str, str]
) -> None:
    """The client need not send it to be told."""
    told = {**headers, "Content-Length": "9000"}
    assert await answer_to(app, path, told, ends=False) == 413


@pytest.mark.parametrize(("path", "headers"), ADDRESSES)
async def test_a_body_that_does_not_end_is_waited_for_only_so_long(
    app: Quart, path: str, headers: dict[str, str]
) -> None:
    """As one that says its length, and does not come."""
    assert await answer_to(app, path, headers, b"{", ends=False) == 408


async def test_a_short_body_in_pieces_is_taken(app: Quart) -> None:
    """As one that says its length."""
    for (path, headers), pieces, status in zip(
        ADDRESSES,
        [(b'{"item":', b'"x"}'), (b"item=", b"x"), (b"token=", TOKEN.encode())],
        [202, 303, 303],
        strict=True,
    ):
        assert await answer_to(app, path, headers, *pieces, ends=True) == status


@pytest.mark.parametrize("app", [False], indirect=True, ids=["host"])
async def test_the_hosts_own_routes_take_what_they_took(app: Quart) -> None:
    """A bound of ours there would be a fault of the host's."""
    assert await answer_to(app, "/upload", {}, *[b"x" * 1000] * 20, ends=True) == 200
