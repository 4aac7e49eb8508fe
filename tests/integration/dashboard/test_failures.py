"""Failures by error and place, and what operators do to many jobs at once."""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

import pytest
from quart import Quart, Request
from redis import Redis

from service import Caller, Jobs
from service.broker.scripts import QueueList, Scripts, Take
from service.dashboard.events.recent import Query
from service.dashboard.events.recorder import Recorder
from service.dashboard.extension import dashboard_of
from service.parts import parts_of
from service.redis.keys import RECORD, broker_keys
from service.settings import read_settings
from service.signals import JobEvent
from service.tasks.demo import find_primes, my_add
from tests.support.valkey import Valkey

PLACE: Final = "shop/mail.py:send:12"


def failed(number: int, error: str = "ValueError: no Ada", place: str = PLACE) -> JobEvent:
    now = time.time() - 10
    name = f"job-{number}"
    return JobEvent(
        name, "FAILURE", "demo.my_add", now, "w@h", now, now, now, 0, "celery", error, place
    )


def record(number: int, state: str = "FAILURE", **fields: Any) -> str:
    return json.dumps(
        {
            "status": state,
            "owner": "ada",
            "result": {"exc_type": "ValueError", "exc_message": ["no Ada"]},
            "name": "demo.my_add",
            "date_done": "2026-01-01T00:00:00+00:00",
            "arguments": {"a": number, "b": 1},
            "task_id": f"job-{number}",
            **fields,
        }
    )


@pytest.fixture(name="recorder")
def _recorder(redis_url: str) -> Recorder:
    recorder = Recorder(
        read_settings({"SERVICE_REDIS_URL": redis_url, "SERVICE_RESULT_EXPIRES": 60})
    )
    recorder.take_over()
    return recorder


@pytest.fixture(name="app")
async def _app(redis_url: str) -> AsyncIterator[Quart]:
    """An app whose callers have the role that they say."""

    def identify(request: Request) -> Caller:
        role = request.headers.get("X-Role", "admin")
        return Caller(role, {role})

    app = Quart(__name__)
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_RESULT_EXPIRES": 60}
    Jobs(app, url_prefix="", identify=identify, tasks=["service.tasks.demo"], config=settings)
    async with app.test_app():
        yield app


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


async def page(app: Quart, address: str, role: str = "admin") -> str:
    answer = await app.test_client().get(address, headers={"X-Role": role, "Accept": "text/html"})
    assert answer.status_code == 200, await answer.get_data(as_text=True)
    return str(await answer.get_data(as_text=True))


async def post(app: Quart, address: str, **form: str) -> Any:
    return await app.test_client().post(address, form=form)


async def test_failures_are_counted_by_error_and_place(
    app: Quart, recorder: Recorder, valkey: Valkey
) -> None:
    """In however many reports; their texts are for administrators."""
    for number in range(3):
        recorder.record(failed(number, f"ValueError: no Ada {number}"))
    recorder.record(failed(3, place="shop/mail.py:send:13"))
    recorder.record(JobEvent("fine", "SUCCESS", "demo.my_add", time.time()))
    assert recorder.report()
    recorder.record(failed(4, "ValueError: no <b>Ada</b>"))
    assert recorder.report()
    now = await dashboard_of(app).reader.refresh()
    group, other = now.failures
    assert (group.count, group.type, group.place) == (4, "ValueError", PLACE)
    assert (group.job, group.error) == ("job-4", "ValueError: no <b>Ada</b>")
    assert sum(group.bars(now.at)) == 4
    assert other.count == 1
    for address in ("/dashboard/failures", "/dashboard"):
        full, short = await page(app, address), await page(app, address, "viewer")
        assert "no &lt;b&gt;Ada&lt;/b&gt;" in full
        assert "Ada" not in short
        assert PLACE in short
    assert "Run again" not in await page(app, "/dashboard/failures", "viewer")
    assert "Run again" in await page(app, "/dashboard/failures", "operator")
    shown = words(await page(app, f"/dashboard?failure={group.id}"))
    assert "4 of the 6 most recent jobs" in shown
    with valkey.client() as redis:
        assert all(redis.ttl(key) > 0 for key in redis.scan_iter("service:failures*"))


async def test_only_so_many_groups_are_kept(recorder: Recorder, valkey: Valkey) -> None:
    """Those that were seen last, however many there are in one report."""
    for number in range(230):
        recorder.record(failed(number, place=f"a.py:f:{number}"))
        if number % 50 == 0:
            recorder.report()
    assert recorder.report()
    with valkey.client() as redis:
        assert redis.hlen("service:failures") == redis.zcard("service:failures:seen") == 200
        redis.hset("service:failures", redis.zrange("service:failures:seen", -1, -1)[0], "[")
    recorder.record(failed(1))
    assert recorder.report(), "what somebody else wrote stops no report"


def queued(redis: Redis) -> list[Any]:
    messages: Any = redis.lrange("celery", 0, -1)
    return [json.loads(message) for message in messages]


async def test_a_group_is_run_again_once_and_then_dropped(
    app: Quart, recorder: Recorder, valkey: Valkey
) -> None:
    """The number is said first: only jobs whose arguments are known count."""
    with valkey.client() as redis:
        for number in range(120):
            recorder.record(failed(number))
            redis.set(f"{RECORD}job-{number}", record(number), ex=60)
        redis.set(f"{RECORD}job-1", record(1, arguments=None), ex=60)
        redis.set(f"{RECORD}job-2", record(2, name="not.known"), ex=60)
        redis.delete(f"{RECORD}job-3")
        recorder.report()
        (group,) = (await dashboard_of(app).reader.refresh()).failures
        address = f"/dashboard/many/retry?failure={group.id}"
        asked = await page(app, address, "operator")
        assert "Run 117 jobs again?" in words(asked)
        until = re.search('name="until" value="([^"]+)"', asked)
        assert until
        assert (await post(app, address, until="1")).headers["Location"].endswith("number=0")
        done = await post(app, address, until=until[1])
        assert "117 jobs were queued again." in await page(app, done.headers["Location"])
        messages = queued(redis)
        assert len(messages) == 117
        assert {message["headers"]["owner"] for message in messages} == {"ada"}
        assert "No job can be run again" in await page(app, address)
        drop = f"/dashboard/many/drop?failure={group.id}"
        assert "Drop 119 jobs?" in words(await page(app, drop))
        assert (await post(app, drop, until=until[1])).status_code == 303
        assert not list(redis.scan_iter(f"{RECORD}job-*"))
        assert not redis.exists("service:failures")
    dashboard_of(app).recorder.report()
    dashboard_of(app).reader.expire()
    now = await dashboard_of(app).reader.refresh()
    assert (now.failures, now.jobs) == ((), 1 + 117)
    audit = words(await page(app, "/dashboard/audit"))
    assert f"retry 117 jobs: failure {group.id}" in audit
    assert f"drop 119 jobs: failure {group.id}" in audit


async def test_what_a_filter_shows_is_cancelled(app: Quart, valkey: Valkey) -> None:
    """Of one task, and none of another; a viewer is not even asked."""
    async with app.app_context():
        jobs = [await my_add.enqueue(n, 1) for n in range(60)] + [await find_primes.enqueue(10)]
    dashboard_of(app).recorder.report()
    address = "/dashboard/many/cancel?task=demo.my_add"
    refused = await app.test_client().get(address, headers={"X-Role": "viewer"})
    assert refused.status_code == 403
    assert (await app.test_client().get("/dashboard/many/burn")).status_code == 404
    asked = await page(app, address)
    assert "Cancel 60 jobs?" in words(asked)
    until = re.search('name="until" value="([^"]+)"', asked)
    assert until
    assert (await post(app, address, until=until[1])).status_code == 303
    with valkey.client() as redis:
        states = [json.loads(str(redis.get(f"{RECORD}{job.id}")))["status"] for job in jobs]
    assert states == ["REVOKED"] * 60 + ["QUEUED"]


async def test_a_search_finds_arguments_and_errors(
    app: Quart, recorder: Recorder, valkey: Valkey
) -> None:
    """For administrators; in the letters that people type."""
    with valkey.client() as redis:
        for number, word in ((1, "Zoë"), (2, "Bob")):
            recorder.record(failed(number, f"KeyError: {word} is away"))
            data = record(number, arguments={"name": f"{word} of {number}"})
            redis.set(f"{RECORD}job-{number}", data, ex=60)
    recorder.report()
    for search, found in (("zoë of", 1), ("of", 2), ("bob away", 1), ("task_id", 0), ("keyerr", 2)):
        shown = words(await page(app, f"/dashboard?q={quote(search)}"))
        assert f"{found} of the 2 most recent jobs" in shown, search
    assert "0 of the 2 most recent jobs" in words(await page(app, "/dashboard?q=bob", "operator"))
    assert "2 of the 2 most" in words(await page(app, "/dashboard?q=keyerror", "operator"))


async def test_operators_pause_and_resume_a_task(app: Quart, valkey: Valkey) -> None:
    """The dashboard says who, why and how many jobs wait for it; a viewer sees it and may not."""
    address, queue = "/dashboard/tasks?task=demo.my_add", "/dashboard/queues?queue=celery"
    form = {"act": "pause", "why": "it sends <twice>"}
    client = app.test_client()
    refused = await client.post(address, form=form, headers={"X-Role": "viewer"})
    assert refused.status_code == 403
    as_operator = {"X-Role": "operator"}
    assert (await client.post(address, form=form, headers=as_operator)).status_code == 303
    async with app.app_context():
        job = await my_add.enqueue(1, 2)
    keys = broker_keys(parts_of(app).celery.get().conf)
    with valkey.client() as redis:
        taken = Take(keys, (QueueList("celery", "celery"),), 10, 0, 30.0)
        with Redis.from_url(valkey.url) as blocking:
            assert not Scripts(blocking, keys).take(taken).deliveries
        dashboard_of(app).reader.expire()
        for seen in (await page(app, address, "viewer"), await page(app, "/dashboard", "viewer")):
            assert "by operator" in words(seen)
            assert "it sends &lt;twice&gt;" in seen
            assert "Resume…" not in seen
        assert "Resume…" in await page(app, "/dashboard", "operator")
        async with app.test_request_context("/dashboard"):
            for query in (Query(), Query(may_operate=True)):  # as who has the page open is told
                shown = (await dashboard_of(app).content(query)).since(None)["fragments"]["tasks"]
                assert ("Resume…" in shown) is query.may_operate
        assert "1 job waits" in words(await page(app, "/dashboard"))
        assert "Paused 1 of paused tasks" in words(
            await page(app, "/dashboard/queues?queue=celery")
        )
        assert "<button" not in (await page(app, address, "viewer")).partition("<main")[2]
        shown = words(await page(app, f"/result/{job.id}"))
        assert "Its task is paused by operator: it sends &lt;twice&gt;" in shown
        assert "Sent from" in shown  # its message is found
        resumed = await client.post(address, form={"act": "resume"}, headers=as_operator)
        assert resumed.status_code == 303
        assert "Waiting 1 the oldest" in words(await page(app, queue))
        assert "paused" not in words(await page(app, "/dashboard")).lower()
        assert redis.exists(keys.paused_lists)
        redis.flushdb()
    missing = "/dashboard/tasks?task=nobody"
    assert (await client.post(missing, form=form)).status_code == 404
    assert (await client.get(missing)).status_code == 404


async def test_operators_pause_and_resume_a_queue(app: Quart, valkey: Valkey) -> None:
    """The dashboard says who, and why; a viewer sees it and may not."""
    address = "/dashboard/queues?queue=celery"
    as_operator = {"X-Role": "operator"}
    form = {"act": "pause", "why": "the <relay> is down"}
    client = app.test_client()
    refused = await client.post(address, form=form, headers={"X-Role": "viewer"})
    assert refused.status_code == 403
    assert (await client.post(address, form=form, headers=as_operator)).status_code == 303
    for seen in (await page(app, address, "viewer"), await page(app, "/dashboard", "viewer")):
        assert "by operator" in words(seen)
        assert "the &lt;relay&gt; is down" in seen
    assert "<button" not in (await page(app, address, "viewer")).partition("<main")[2]
    resumed = await client.post(address, form={"act": "resume"}, headers=as_operator)
    assert resumed.status_code == 303
    assert "paused" not in words(await page(app, "/dashboard")).lower()
    async with app.app_context():
        await my_add.enqueue(1, 2)
    dashboard_of(app).reader.expire()
    assert re.search(r"Waiting 1 the oldest for \d+ m?s", words(await page(app, address)))
    for wrong in ({"act": "stop"}, {}):
        assert (await client.post(address, form=wrong)).status_code == 400
    missing = "/dashboard/queues?queue=nobody"
    assert (await client.post(missing, form=form)).status_code == 404
    assert (await client.get(missing)).status_code == 404
    audit = words(await page(app, "/dashboard/audit"))
    assert "pause queue celery: the &lt;relay&gt; is down" in audit
    assert "resume queue celery" in audit
    with valkey.client() as redis:
        assert not redis.exists("unacked_paused")
