"""Behind a proxy that ends TLS: cookies, addresses and HSTS are those of what the browser sees."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import Quart, request, url_for
from quart.typing import TestClientProtocol as Client

from service import Jobs, create_app
from service.access.access import FROM_PROXY
from service.web.asgi.proxies import client_address
from tests.support.host_app import make_host, shop

TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
PROXY, STRANGER = {"client": ("10.0.0.1", 1)}, {"client": ("192.0.2.1", 1)}
SAID = {
    "X-Forwarded-For": "198.51.100.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "jobs.example",
    "X-Forwarded-Prefix": "/app",
}
HSTS = "Strict-Transport-Security"


@pytest.fixture
def settings(redis_url: str) -> dict[str, str]:
    return {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_ADMIN_TOKEN": TOKEN,
        "SERVICE_TRUSTED_PROXIES": "10.0.0.0/8, unix",
    }


@pytest.fixture
async def client(settings: dict[str, str]) -> AsyncIterator[Client]:
    app = create_app(settings)
    async with app.test_app():
        yield app.test_client(use_cookies=False)


async def test_what_a_browser_gets_fits_the_address_that_it_knows(client: Client) -> None:
    """A cookie for HTTPS alone, links with the prefix, and no way back to plain HTTP."""
    form = {"token": TOKEN}
    # The header by which a browser on the proxy's host says where a form is from.
    headers = {**SAID, "Origin": "https://jobs.example"}
    answer = await client.post("/dashboard/sign-in", form=form, headers=headers, scope_base=PROXY)
    assert answer.status_code == 303
    assert answer.location == "/app/dashboard"
    assert "Secure" in answer.headers["Set-Cookie"]
    assert "Path=/app/;" in answer.headers["Set-Cookie"]
    assert answer.headers[HSTS] == "max-age=31536000"


async def test_from_anyone_else_it_counts_for_nothing(client: Client) -> None:
    """Whoever reaches the service without its proxy."""
    form = {"token": TOKEN}
    answer = await client.post("/dashboard/sign-in", form=form, headers=SAID, scope_base=STRANGER)
    assert answer.location == "/dashboard"
    assert "Secure" not in answer.headers["Set-Cookie"]
    assert HSTS not in answer.headers


async def test_two_clients_for_one_request_are_refused(client: Client) -> None:
    """A client must not choose which header is believed."""
    headers = {**SAID, "Forwarded": "for=203.0.113.5"}
    answer = await client.get("/tasks", headers=headers, scope_base=PROXY)
    assert answer.status_code == 400
    assert "different clients" in (await answer.get_json())["detail"]
    assert (await client.get("/tasks", headers=headers, scope_base=STRANGER)).status_code == 200


async def test_hsts_can_be_turned_off(settings: dict[str, str]) -> None:
    """For a name under which something else is served, too."""
    app = create_app({**settings, "SERVICE_HSTS": "0"})
    async with app.test_app():
        answer = await app.test_client().get("/tasks", scheme="https")
        assert HSTS not in answer.headers


def _host(settings: dict[str, str]) -> Quart:
    """An app of somebody else's that tells what its own routes and ours see."""
    app = make_host(Jobs(tasks=[shop]), **settings)

    @app.get("/seen")
    async def seen() -> list[str]:
        return [str(request.remote_addr), request.url, url_for("seen", _external=True)]

    @app.after_request
    async def tell(response: Any) -> Any:
        response.headers["X-Seen"] = f"{client_address()} {FROM_PROXY in request.scope}"
        return response

    return app


async def test_in_a_hosts_app_only_our_routes_believe(settings: dict[str, str]) -> None:
    """The host's may have a way of its own; and HSTS speaks for all of the host."""
    app = _host(settings)
    async with app.test_app():
        client = app.test_client()
        theirs = await client.get("/seen", headers=SAID, scope_base=PROXY)
        assert await theirs.get_json() == ["10.0.0.1", *["http://localhost/seen"] * 2]
        assert theirs.headers["X-Seen"] == "10.0.0.1 False"
        missing = await client.get("/jobs/none", headers=SAID, scope_base=PROXY)
        assert missing.headers["X-Seen"] == "10.0.0.1 False"
        ours = await client.post(
            "/jobs/tasks/shop.sell", json={"item": "tea"}, headers=SAID, scope_base=PROXY
        )
        assert ours.headers["X-Seen"] == "198.51.100.9 True"
        assert (await ours.get_json())["result_url"].startswith("/app/jobs/result/")
        assert HSTS not in ours.headers
        forged = await client.get("/jobs/tasks", headers=SAID, scope_base=STRANGER)
        assert forged.headers["X-Seen"] == "192.0.2.1 False"


async def test_mounted_in_a_host_of_another_kind_the_same(settings: dict[str, str]) -> None:
    """Its own prefix follows that of the proxy."""
    jobs = Jobs(tasks=[shop], config=settings)
    async with jobs.lifespan():
        client = jobs.app.test_client()
        options: Any = {"headers": SAID, "scope_base": PROXY, "root_path": "/jobs"}
        answer = await client.post("/jobs/tasks/shop.sell", json={"item": "tea"}, **options)
        assert answer.status_code == 202
        assert (await answer.get_json())["result_url"].startswith("/app/jobs/result/")
        assert HSTS not in answer.headers
