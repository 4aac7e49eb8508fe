"""Odd requests on all routes, from somebody unknown and from a user who owns some jobs.

None is a fault of the server, and no answer shows what another's jobs have.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes, unquote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Quart
from redis import Redis

from service import create_app
from tests.integration.access.test_routes import JOB, OTHER, SECRET, routes, store_jobs
from tests.integration.access.test_starting import identify as by_header

USERS: Final = [None, "ada"]
_KEY: Final = "a-key-of-eve"
_HIDDEN: Final = "what-eve-gave-to-a-job"  # as an argument, over HTTP
_OWNED: Final = "what-adas-job-returned"

_odd = st.text(max_size=40).map(lambda text: quote(text.encode(errors="replace"), ""))
_raw = st.binary(max_size=40).map(quote_from_bytes)
_ids = st.sampled_from([JOB, OTHER, "none", "celery-task-meta-" + OTHER])
_PARTS: Final[dict[str, st.SearchStrategy[str]]] = {
    "job_id": st.just(JOB) | _ids | _odd | _raw,
    "name": st.sampled_from(["demo.my_add", "demo.fail", "demo.count_slowly"]) | _odd,
    "letter_id": _ids | _odd,
    "act": st.sampled_from(["retry", "cancel", "drop"]) | _odd,
    "filename": st.sampled_from(["css/base.css", "../app.py", "css/%2e%2e/js", "/x"]) | _odd,
}
_QUERY: Final = st.dictionaries(
    st.sampled_from(["id", "job", "view", "wait", "page", "t", "q", "group_index"])
    | st.text(max_size=9),
    _ids | st.sampled_from(["0", "-1", "nan", "1e400", "page", "٣"]) | st.text(max_size=20),
    max_size=4,
)
_HEADERS: Final = st.dictionaries(
    st.sampled_from(
        [
            *("accept", "accept-language", "accept-encoding", "authorization", "cookie", "range"),
            *("content-type", "content-encoding", "content-length", "idempotency-key", "expect"),
            *("if-none-match", "if-modified-since", "if-range", "last-event-id", "origin"),
            *("referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "upgrade"),
            *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-http-method-override"),
        ]
    ),
    _ids
    | st.sampled_from(
        [
            *(_KEY, "text/html", "text/event-stream", "application/json", "bytes=0-", "Bearer x"),
            *("Basic Og==", 'W/"0"', "*", "null", "same-origin", "q=0;q", "a/b;q=x", "-1", '"'),
        ]
    )
    | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    max_size=5,
)
_values = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(_HIDDEN)
_FORM: Final = st.dictionaries(
    st.sampled_from(["a", "b", "steps", "pause", "message", "token", "limit"])
    | st.text(max_size=9),
    st.text(max_size=20) | st.sampled_from(["1", "1e999", "[1]", _HIDDEN]),
    max_size=4,
).map(lambda form: ("application/x-www-form-urlencoded", urlencode(form).encode()))
_BODIES: Final = st.one_of(
    _FORM,
    st.dictionaries(st.sampled_from(["a", "b", "message"]) | st.text(max_size=5), _values).map(
        lambda found: ("application/json", json.dumps(found).encode())
    ),
    st.tuples(
        st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain"]),
        st.binary(max_size=60),
    ),
)
_REQUESTS: Final = st.sampled_from(routes()).flatmap(
    lambda route: st.tuples(
        st.just(route[0]),
        st.just(route[1].rule),
        st.fixed_dictionaries({name: _PARTS[name] for name in sorted(route[1].arguments)}),
        _QUERY,
        _HEADERS,
        _BODIES if route[0] == "POST" else st.just(("", b"")),
    )
)


async def ask(app: Quart, user: str | None, request: Any) -> tuple[int, str, str]:
    """Status, request and answer, as text: of a stream, what comes before it waits."""
    method, rule, parts, query, headers, (content_type, body) = request
    target = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: parts[found[1]], rule)
    query_text = urlencode(query, errors="replace")
    sent = {"host": "localhost", "content-type": content_type, **headers}
    if user:
        sent["x-test-user"] = user
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target, errors="replace"),
        "raw_path": target.encode(),
        "query_string": query_text.encode(),
        "root_path": "",
        "headers": [(n.encode(), v.encode("latin-1")) for n, v in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "extensions": {},
    }
    events: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    answers: list[Any] = []
    said = asyncio.Event()

    async def receive() -> Any:
        if events:
            return events.pop()
        await said.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answers.append(message)
        is_stream = b"text/event-stream" in dict(answers[0]["headers"]).get(b"content-type", b"")
        if message["type"] == "http.response.body" and (is_stream or not message.get("more_body")):
            said.set()

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    start = answers[0]
    text = b"\n".join(
        [
            *(name + value for name, value in start["headers"]),
            *(message.get("body", b"") for message in answers[1:]),
        ]
    )
    asked = f"{scope['path']} {query} {headers} {body!r}"
    return start["status"], asked, text.decode(errors="replace")


@asynccontextmanager
async def serving(redis_url: str, user: str | None) -> AsyncIterator[tuple[Quart, str]]:
    """The app, with users or without, and the id of a job that eve has started over HTTP."""
    config = {"SERVICE_REDIS_URL": redis_url, "SERVICE_LIMITS": "off"}
    config |= {"SERVICE_ADMIN_TOKEN": "a-token-for-this-test"}
    with Redis.from_url(redis_url) as redis:
        store_jobs(redis, {JOB: ("ada", _OWNED), OTHER: ("eve", SECRET)})
    app = create_app(config, identify=by_header)
    async with app.test_app():
        headers = {"X-Test-User": "eve", "Idempotency-Key": _KEY}
        client = app.test_client()
        sent = await client.post("/tasks/demo.fail", json={"message": _HIDDEN}, headers=headers)
        job_id = (await sent.get_json())["id"]
        if user:
            yield app, job_id
    if not user:
        app = create_app(config)
        async with app.test_app():
            yield app, job_id


@pytest.mark.parametrize("user", USERS)
def test_odd_requests_are_no_faults_and_show_nothing_of_others(
    redis_url: str, user: str | None
) -> None:
    """What a request has said itself may stand in its answer."""
    shown: set[str] = set()
    with asyncio.Runner() as runner:
        context = serving(redis_url, user)
        app, eves = runner.run(context.__aenter__())

        @settings(max_examples=400, derandomize=True, database=None)
        @given(request=_REQUESTS)
        def check(request: Any) -> None:
            status, asked, answer = runner.run(ask(app, user, request))
            assert status < 500, answer
            for hidden in (SECRET, _HIDDEN, OTHER, eves):
                assert hidden not in answer or hidden in asked
            shown.update({_OWNED} if _OWNED in answer else ())

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))
    assert shown == ({_OWNED} if user else set())
