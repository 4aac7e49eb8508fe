"""What browsers are told that pages may do, and who may do what from where."""

import hmac
import time
from hashlib import sha256
from typing import Any

import pytest
from itsdangerous import Signer
from quart import Quart
from quart.typing import TestClientProtocol as Client

from service import create_app
from service.access.operators import cookie_signer
from tests.support.site import TOKEN

BROWSER = {"Accept": "text/html"}


async def ask(client: Client, method: str, path: str, headers: dict[str, str]) -> Any:
    """A request with an empty body."""
    return await {"GET": client.get, "POST": client.post, "DELETE": client.delete}[method](
        path, headers=headers
    )


@pytest.mark.parametrize(
    "path", ["/", "/result/none", "/dashboard/sign-in", "/static/css/base.css"]
)
async def test_every_answer_says_what_a_page_may_do(client: Client, path: str) -> None:
    """Pages, errors and files alike."""
    response = await client.get(path, headers=BROWSER)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"


async def test_no_page_has_inline_code_or_style(client: Client) -> None:
    """The policy would silently ignore it."""
    for path in ("/", "/dashboard/sign-in", "/docs"):
        text = await (await client.get(path, headers=BROWSER)).get_data(as_text=True)
        assert " style=" not in text
        assert " onclick=" not in text
        assert "<script>" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tasks/demo.my_add"),
        ("POST", "/start/demo.my_add"),
        ("DELETE", "/result/one"),
        ("POST", "/dashboard/sign-in"),
        ("POST", "/dashboard/dead-letters/one/drop"),
    ],
)
async def test_other_sites_can_change_nothing(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """Not even where no cookie is needed: starting jobs costs."""
    response = await ask(client, method, path, headers)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}, {}]
)
async def test_our_own_pages_and_other_programs_can(
    client: Client, headers: dict[str, str]
) -> None:
    """A program that is no browser sends neither header."""
    response = await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2}, headers=headers)
    assert response.status_code == 202


async def test_without_a_token_there_is_no_dashboard(redis_url: str) -> None:
    """Nothing of it, and no link to it."""
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    async with app.test_app():
        client = app.test_client()
        for path in ("", "/sign-in", "/news", "/dead-letters"):
            assert (await client.get(f"/dashboard{path}", headers=BROWSER)).status_code == 404
        page = await (await client.get("/", headers=BROWSER)).get_data(as_text=True)
        assert "/dashboard" not in page


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/dashboard"),
        ("GET", "/dashboard/news"),
        ("GET", "/dashboard/dead-letters"),
        ("POST", "/dashboard/dead-letters/one/replay"),
        ("POST", "/dashboard/dead-letters/one/drop"),
    ],
)
async def test_all_of_it_needs_the_token(client: Client, method: str, path: str) -> None:
    """A person is asked for it, a program is told."""
    response = await ask(client, method, path, {})
    assert response.status_code == 403
    if method == "GET":
        response = await client.get(path, headers=BROWSER)
        assert (response.status_code, response.location) == (303, "/dashboard/sign-in")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    response = await ask(client, method, path, bearer)
    assert response.status_code in {200, 404}
    bearer = {"Authorization": f"bearer {TOKEN}"}
    assert (await ask(client, method, path, bearer)).status_code in {200, 404}
    bearer = {"Authorization": "Bearer wrong"}
    assert (await ask(client, method, path, bearer)).status_code == 403


async def test_the_cookie_is_signed_and_for_us_alone(client: Client) -> None:
    """It says until when it holds; whoever changes that, or made it with another token, is out."""
    response = await client.post("/dashboard/sign-in", form={"token": TOKEN})
    assert (response.status_code, response.location) == (303, "/dashboard")
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/;" in cookie
    assert TOKEN not in cookie
    value = cookie.split(";")[0]

    async def opens(cookie: str) -> bool:
        return (await client.get("/dashboard", headers={"Cookie": cookie})).status_code == 200

    text, _, signature = value.removeprefix("service_admin=").partition(".")
    until, _, session = text.partition("-")
    expired = cookie_signer(TOKEN).sign(f"{int(time.time()) - 1}-{session}").decode()
    foreign = cookie_signer("another-token-than-ours").sign(text).decode()
    other_use = Signer(TOKEN, digest_method=sha256).sign(text).decode()
    no_time = cookie_signer(TOKEN).sign(f"for-ever-{session}").decode()
    no_session = cookie_signer(TOKEN).sign(until).decode()
    old_key = sha256(f"service_admin:{TOKEN}".encode()).digest()
    old_form = f"{until}.{hmac.new(old_key, until.encode(), 'sha256').hexdigest()}"
    assert await opens(value)
    assert not await opens(f"service_admin={int(until) + 9}-{session}.{signature}")
    assert not await opens(f"service_admin={text}.")
    assert not await opens("service_admin=\u0663.x")
    for refused in (expired, foreign, other_use, no_time, no_session, old_form):
        assert not await opens(f"service_admin={refused}")


async def test_the_cookie_lasts_twelve_hours(client: Client) -> None:
    """In the browser, and by what is signed: a browser can be made to keep it for longer."""
    response = await client.post("/dashboard/sign-in", form={"token": TOKEN})
    cookie = response.headers["Set-Cookie"]
    assert "Max-Age=43200" in cookie
    until = int(cookie.removeprefix("service_admin=").partition("-")[0])
    assert 43_100 < until - time.time() <= 43_200


async def test_a_new_token_ends_all_cookies(redis_url: str, client: Client) -> None:
    """Whoever had the old one is out."""
    response = await client.post("/dashboard/sign-in", form={"token": TOKEN})
    cookie = response.headers["Set-Cookie"].split(";")[0]
    for token, status in ((TOKEN, 200), (f"{TOKEN}-changed", 403)):
        app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": token})
        async with app.test_app():
            own = app.test_client(use_cookies=False)
            answer = await own.get("/dashboard", headers={"Cookie": cookie})
            assert answer.status_code == status


async def test_a_wrong_token_gets_no_cookie(client: Client) -> None:
    """And the answer does not tell how wrong it was."""
    for token in ("", "wrong", TOKEN[:-1], "\u00e9"):
        response = await client.post("/dashboard/sign-in", form={"token": token})
        assert response.status_code == 403
        assert "Set-Cookie" not in response.headers


async def test_over_https_the_cookie_is_secure(app: Quart) -> None:
    """On plain HTTP a browser would not take it."""
    client = app.test_client()
    response = await client.post("/dashboard/sign-in", form={"token": TOKEN}, scheme="https")
    assert "Secure" in response.headers["Set-Cookie"]


async def test_a_web_socket_is_refused(app: Quart) -> None:
    """There is none, at no address."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "headers": []}
    await app(scope, receive, send)  # type: ignore[arg-type]  # typed for each kind of scope
    assert sent == [{"type": "websocket.close"}]


async def test_under_a_path_of_its_own_a_service_signs_in_too(client: Client) -> None:
    """The cookie is for the address that the browser knows."""
    form = {"token": TOKEN}
    response = await client.post("/app/dashboard/sign-in", form=form, root_path="/app")
    assert response.location == "/app/dashboard"
    assert "Path=/app/;" in response.headers["Set-Cookie"]
    document = await (await client.get("/app/openapi.json", root_path="/app")).get_json()
    assert document["servers"] == [{"url": "/app"}]


async def test_signing_out_ends_every_copy_of_the_cookie(client: Client) -> None:
    """Whoever has taken one from the browser is out, too; another sign-in goes on."""
    cookies = []
    for _ in range(2):
        response = await client.post("/dashboard/sign-in", form={"token": TOKEN})
        cookies.append({"Cookie": response.headers["Set-Cookie"].split(";")[0]})
    await client.post("/dashboard/sign-out", headers=cookies[0])
    answers = [await client.get("/dashboard", headers=cookie) for cookie in cookies]
    assert [answer.status_code for answer in answers] == [403, 200]


@pytest.mark.parametrize(
    ("headers", "starts"),
    [
        ({}, True),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, False),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
        ({"Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch;prerender"}, False),
        ({"Purpose": "prefetch"}, False),
    ],
)
async def test_only_a_visit_starts_a_job(
    client: Client, headers: dict[str, str], *, starts: bool
) -> None:
    """A browser asks for pages by itself, too, and other sites have it ask for images."""
    page = await client.get("/", headers={**BROWSER, **headers})
    assert page.status_code == 200
    assert ("This page has just started" in await page.get_data(as_text=True)) is starts
    told = await client.get("/", headers=headers)
    assert ("id" in await told.get_json()) is starts


@pytest.mark.parametrize(
    "name", ["x" * 300, "x/" * 5000, "%00", "/css/base.css", "../app.py", "..%2fapp.py", "%ff"]
)
async def test_a_file_that_cannot_be_is_not_found(client: Client, name: str) -> None:
    """By whatever the file system says; and no redirect leads to the Host of the request."""
    for folder in ("/static/", "/static/dashboard/"):
        answer = await client.get(f"{folder}{name}", headers={"Host": "evil.example"})
        assert answer.status_code == 404


async def test_other_origins_use_the_api_where_they_are_allowed(redis_url: str) -> None:
    """No page, no dashboard, no other origin; and cookies count only where that is asked for."""
    origin = "https://app.example"
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN}
    start: Any = ("/tasks/demo.my_add", {"json": {"a": 1, "b": 2}})
    for credentials in ("omit", "include"):
        more = {"SERVICE_CORS_ORIGINS": origin, "SERVICE_CORS_CREDENTIALS": credentials}
        app = create_app({**settings, **more})
        async with app.test_app():
            client = app.test_client(use_cookies=False)
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            asked = await client.options(start[0], headers={**headers, **_PREFLIGHT})
            assert asked.headers["Access-Control-Allow-Origin"] == origin
            assert "POST" in asked.headers["Access-Control-Allow-Methods"]
            assert "Idempotency-Key" in asked.headers["Access-Control-Allow-Headers"]
            done = await client.post(start[0], **start[1], headers=headers)
            assert done.status_code == 202
            assert "Location" in done.headers["Access-Control-Expose-Headers"]
            assert ("Access-Control-Allow-Credentials" in done.headers) is (
                credentials == "include"
            )
            with_cookie = {**headers, "Cookie": "a=b"}
            done = await client.post(start[0], **start[1], headers=with_cookie)
            assert done.status_code == (202 if credentials == "include" else 403)
            other = {**headers, "Origin": "https://evil.example"}
            refused = await client.post(start[0], **start[1], headers=other)
            assert refused.status_code == 403
            assert "Access-Control-Allow-Origin" not in refused.headers
            for path in ("/dashboard/sign-in", "/start/demo.my_add"):
                refused = await client.post(path, form={"token": TOKEN}, headers=headers)
                assert refused.status_code == 403
                assert "Access-Control-Allow-Origin" not in refused.headers


async def test_no_other_origin_is_told_anything_by_default(client: Client) -> None:
    """A page that asks all the same gets no answer from its browser."""
    answer = await client.get("/tasks", headers={"Origin": "https://app.example"})
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]


_PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, idempotency-key",
}
