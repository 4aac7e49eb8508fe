"""What one caller may ask for and have open, and how it is told that it has had it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, cast

import pytest
from quart import Quart
from redis.asyncio import Redis

from service import create_app
from service.parts import parts_of
from service.redis.keys import RECORD
from service.results.model import State
from service.results.record import encode_ended
from service.settings.limits import Limit
from service.web.limits.ledger import Ledger
from service.worker.results.writer import STORE
from tests.support.records import record
from tests.support.wait import wait_until_async

ADD = "/tasks/demo.my_add"
Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Quart]]


@pytest.fixture
def serve(redis_url: str) -> Serve:
    @asynccontextmanager
    async def serve(limits: str, **settings: Any) -> AsyncIterator[Quart]:
        given = {"SERVICE_REDIS_URL": redis_url, "SERVICE_LIMITS": limits, **settings}
        app = create_app(given)
        async with app.test_app():
            yield app

    return serve


async def add(app: Quart, address: str = "192.0.2.1", **headers: str) -> Any:
    client = app.test_client(use_cookies=False)
    scope = {"client": (address, 1)}
    return await client.post(ADD, json={"a": 1, "b": 2}, headers=headers, scope_base=scope)


async def test_starts_beyond_the_quota_are_refused(serve: Serve) -> None:
    """By GCRA, in the form of the draft, and only for the caller that has had its quota."""
    async with serve("starts=3/1h") as app:
        answers = [await add(app) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        fields = [answer.headers["RateLimit"].split(", ")[-1] for answer in answers]
        assert [field.partition(";t=")[0] for field in fields[:3]] == [
            f'"starts";r={left}' for left in (2, 1, 0)
        ]
        refused = answers[-1]
        seconds = int(refused.headers["Retry-After"])
        assert 1100 < seconds <= 1200
        assert refused.headers["RateLimit"] == f'"starts";r=0;t={seconds}'
        assert refused.headers["RateLimit-Policy"] == '"starts";q=3;w=3600'
        problem = await refused.get_json()
        assert problem["type"].endswith("http-problem-types#quota-exceeded")
        assert problem["violated-policies"] == ["starts"]
        assert (await add(app, "192.0.2.2")).status_code == 202


async def test_a_network_of_ipv6_is_one_caller(serve: Serve) -> None:
    """Each customer of a provider has 2**64 addresses in it."""
    async with serve("starts=1/1h") as app:
        addresses = ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "192.0.2.1")
        codes = [(await add(app, address)).status_code for address in addresses]
    assert codes == [202, 429, 202, 202]


async def test_a_limit_that_is_off_is_not_told(serve: Serve) -> None:
    """A client would take it for a quota of none."""
    async with serve("starts=off,requests=5/1h") as app:
        answer = await add(app)
        assert answer.status_code == 202
        assert answer.headers["RateLimit-Policy"] == '"requests";q=5;w=3600'


async def test_a_caller_that_has_hardly_begun_is_told_nothing(serve: Serve) -> None:
    """It need not know, and two more fields cost more than all the counting."""
    async with serve("starts=20/1h,requests=20/1h") as app:
        told = [(await add(app)).headers.get("RateLimit") for _ in range(3)]
    assert told[0] is None
    assert told[2].startswith('"requests";r=17;t=')


async def test_all_processes_count_the_starts_of_a_caller(serve: Serve) -> None:
    """A load balancer in front must not multiply the quota."""
    async with serve("starts=2/1h") as one, serve("starts=2/1h") as other:
        codes = [(await add(app)).status_code for app in (one, other, one, other)]
    assert codes == [202, 202, 429, 429]


async def test_the_same_request_again_is_no_further_start(serve: Serve) -> None:
    """A client that tries again by its idempotency key gets its job, not a refusal."""
    async with serve("starts=1/1h") as app:
        first = await add(app, **{"Idempotency-Key": "one"})
        again = await add(app, **{"Idempotency-Key": "one"})
        assert (await first.get_json())["id"] == (await again.get_json())["id"]
        assert (await add(app)).status_code == 429


async def test_requests_beyond_the_quota_are_refused(serve: Serve) -> None:
    """Whatever they ask for, also for what is not there."""
    async with serve("requests=2/1h") as app:
        client = app.test_client(use_cookies=False)
        answers = [await client.get(path) for path in ("/tasks", "/nothing", "/tasks")]
        assert [answer.status_code for answer in answers] == [200, 404, 429]
        assert answers[0].headers["RateLimit"].startswith('"requests";r=1;t=')
        assert answers[2].headers["RateLimit-Policy"] == '"requests";q=2;w=3600'


async def test_without_limits_nothing_is_told(serve: Serve) -> None:
    """And nothing is counted."""
    async with serve("off") as app:
        answer = await add(app)
        assert answer.status_code == 202
        assert "RateLimit" not in answer.headers
        assert await parts_of(app).redis.keys("*service:charged*") == []
        assert await parts_of(app).redis.keys("*service:caller*") == []


async def test_other_processes_learn_what_a_caller_has_had(redis_url: str, serve: Serve) -> None:
    """Soon: a request does not wait for it."""
    limit = Limit(10, 3600)
    async with serve("off") as app:
        parts = parts_of(app)
        one, other = (Ledger(parts.redis, parts.keys, timeout=20) for _ in range(2))
        for _ in range(9):
            assert one.take("requests", limit, "ada")[1] == 0
        await wait_until_async(lambda: one._sharing is None, description="Redis is told")
        assert other.take("requests", limit, "ada")[1] == 0
        assert other.take("requests", limit, "bob")[1] == 0
        await wait_until_async(
            lambda: other.wait_for_one("requests", limit, "ada") > 0,
            description="the other process refuses",
        )
        assert other.wait_for_one("requests", limit, "bob") == 0
        await one.aclose()
        await other.aclose()


async def test_without_redis_each_process_counts_alone(serve: Serve) -> None:
    """A limiter must not be what breaks then."""
    limit = Limit(2, 3600)
    async with serve("off") as app:
        away = Redis(port=1)
        ledger = Ledger(away, parts_of(app).keys, timeout=0.5)
        assert [ledger.take("requests", limit, "ada")[1] > 0 for _ in range(3)] == [0, 0, 1]
        sharing = ledger._sharing
        assert sharing is not None
        await sharing
        assert ledger.take("requests", limit, "ada")[1] > 0
        await away.aclose()


async def test_a_caller_has_so_many_jobs_open(serve: Serve) -> None:
    """Until one of them has ended; which is found out when there is no room left."""
    async with serve("open-jobs=2") as app:
        parts = parts_of(app)
        ids = [(await (await add(app)).get_json())["id"] for _ in range(2)]
        refused = await add(app)
        assert refused.status_code == 429
        assert (await refused.get_json())["violated-policies"] == ["open-jobs"]
        assert (await add(app, "192.0.2.2")).status_code == 202
        record = await parts.store.read(ids[1])
        ended = encode_ended(record.data, State.FAILURE, ValueError("for the test"))
        assert await parts.store.replace(record, ended)
        assert [(await add(app)).status_code for _ in range(2)] == [202, 429]


async def test_the_messages_of_a_callers_open_jobs_have_so_many_bytes(serve: Serve) -> None:
    """Few large ones fill Redis as well as many small ones."""
    async with serve("open-bytes=20000") as app:
        client = app.test_client()

        async def fail(size: int) -> int:
            json = {"message": "x" * size}
            return (await client.post("/tasks/demo.fail", json=json)).status_code

        assert [await fail(size) for size in (10_000, 10_000, 10)] == [202, 429, 202]


async def test_what_waits_in_a_queue_has_so_many_bytes(serve: Serve) -> None:
    """Whoever sent it; a queue of 100,000 jobs may have 34 GB otherwise."""
    async with serve("off", SERVICE_MAX_QUEUE_BYTES=1_000_000) as app:
        client = app.test_client()
        json = {"message": "x" * 250_000}
        codes = []
        for _ in range(5):
            answer = await client.post("/tasks/demo.fail", json=json)
            codes.append(answer.status_code)
        assert codes[:2] == [202, 202]
        assert codes[-1] == 429
        assert "1000000 waiting bytes" in (await answer.get_json())["detail"]
        assert (await add(app)).status_code == 202


@asynccontextmanager
async def streaming(app: Quart, path: str) -> AsyncIterator[int]:
    """A stream's status, while it is open."""
    client = app.test_client(use_cookies=False)
    headers = {"Accept": "text/event-stream"}
    async with client.request(path, headers=headers) as connection:
        await connection.send_complete()
        await connection.receive()
        yield cast("Any", connection).status_code
        await connection.disconnect()


async def test_a_caller_has_so_many_streams_open(serve: Serve) -> None:
    """Also those without ids, which wait for nothing but cost a connection."""
    async with serve("streams=1") as app:
        async with streaming(app, "/jobs") as first, streaming(app, "/jobs") as second:
            assert (first, second) == (200, 429)
        async with streaming(app, "/jobs") as third:
            assert third == 200


async def test_a_stream_counts_as_long_as_it_is_open(serve: Serve) -> None:
    """Whatever becomes of its jobs; by what it costs, and not by how many jobs it names."""
    async with serve("off", SERVICE_MAX_WAITERS=8) as app:
        watcher = parts_of(app).watcher
        for number in range(50):
            ended = record(f"job-{number}", "SUCCESS")
            await parts_of(app).redis.set(f"{RECORD}job-{number}", ended, ex=60)
        ids = "&".join(f"id=job-{number}" for number in range(50))
        async with streaming(app, f"/jobs?{ids}") as first:
            assert (first, watcher.waiters) == (200, 6)
            async with streaming(app, "/jobs?id=none"):
                assert watcher.waiters == 7
                async with streaming(app, f"/jobs?{ids}") as third:
                    assert third == 503
        assert watcher.waiters == 0


async def test_a_caller_waits_for_so_many_changes_at_once(serve: Serve) -> None:
    """A request that is answered at once is none of them."""
    async with serve("waiters=1") as app:
        job_id = (await (await add(app)).get_json())["id"]
        client = app.test_client(use_cookies=False)
        path = f"/result/{job_id}?wait=30"
        tag = (await client.get(f"/result/{job_id}")).headers["ETag"]
        waiting = asyncio.create_task(client.get(path, headers={"If-None-Match": tag}))
        watcher = parts_of(app).watcher
        await wait_until_async(lambda: watcher.waiters == 1, description="the first one waits")
        answer = await client.get(path, headers={"If-None-Match": tag})
        assert (await answer.get_json())["violated-policies"] == ["waiters"]
        record = await parts_of(app).store.read(job_id)
        ended = encode_ended(record.data, State.FAILURE, ValueError("for the test"))
        assert await parts_of(app).store.replace(record, ended)
        assert (await waiting).status_code == 200


async def test_wrong_tokens_are_counted_and_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Then no further one is looked at, not even the right one: it could be a guess."""
    token = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
    async with serve("sign-ins=2/1h", SERVICE_ADMIN_TOKEN=token) as app:
        client = app.test_client(use_cookies=False)

        async def look(given: str) -> int:
            headers = {"Authorization": f"Bearer {given}"}
            return (await client.get("/dashboard", headers=headers)).status_code

        async def sign_in(given: str) -> int:
            return (await client.post("/dashboard/sign-in", form={"token": given})).status_code

        assert [await look(token), await sign_in(token)] == [200, 303]
        assert [await look("wrong"), await sign_in("wrong")] == [403, 403]
        assert [await look("wrong"), await sign_in("wrong"), await look(token)] == [429] * 3
        told = [record for record in caplog.messages if "A wrong token was sent by" in record]
        assert len(told) == 2


async def test_results_hold_so_many_bytes(serve: Serve) -> None:
    """Until they have expired; else callers could fill Redis by jobs that return much."""
    async with serve("off", SERVICE_MAX_HELD_BYTES=10_000) as app:
        parts = parts_of(app)
        for number, size in enumerate((500, 6_000, 6_000)):
            assert (await add(app)).status_code == 202
            text = json.dumps({"status": "SUCCESS", "result": "x" * size})
            await STORE.run(parts.redis, [parts.keys.record(f"job-{number}")], [text, 3600])
        refused = await add(app)
        assert refused.status_code == 429
        assert "10000 bytes of results" in (await refused.get_json())["detail"]
        key = f"{parts.keys.prefix}service:held"
        for field in await cast("Any", parts.redis.hgetall(key)):
            await cast("Any", parts.redis.hset(key, "1", 20_000))  # that has expired
            await cast("Any", parts.redis.hdel(key, field))
        assert (await add(app)).status_code == 202
