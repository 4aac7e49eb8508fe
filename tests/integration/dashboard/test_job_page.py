"""The page of one job: what an operator finds on it besides, and may do; nobody else does."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from celery import chain, chord, group
from kombu import Exchange, Queue
from quart import Quart
from quart.typing import TestClientProtocol as Client
from redis import Redis

from service import Job, JobGroup, create_app, enqueue, get_celery
from service.dashboard.extension import dashboard_of
from service.parts import parts_of
from service.redis.keys import RECORD
from service.signals import JobEvent, WorkerStatus
from service.tasks.demo import my_add
from tests.support.dead import message_of
from tests.support.site import TOKEN
from tests.support.wait import wait_until_async

ADMIN: Final = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
PUBLIC: Final = {"Accept": "text/html"}
SENT: Final = "2026-01-02T03:04:05+00:00"
TRACE: Final = """Traceback (most recent call last):
  File "/srv/lib/python3.12/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/shop/mail.py", line 12, in send
    client.post(address)
  File "/srv/lib/python3.12/site-packages/httpx/_client.py", line 99, in post
    raise ConnectError("refused")
httpx.ConnectError: refused
"""


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_ADMIN_TOKEN": TOKEN,
            "SERVICE_TASK_MODULES": "tests.support.form_tasks",
        }
    )
    async with app.test_app():
        yield app


def store(redis: Redis, state: str, job_id: str = "one", **more: Any) -> None:
    record = {"status": state, "result": None, "name": "demo.my_add", "queued_at": SENT, **more}
    redis.set(f"{RECORD}{job_id}", json.dumps(record), ex=60)


async def page_of(client: Client, headers: dict[str, str], job_id: str = "one") -> str:
    answer = await client.get(f"/result/{job_id}", headers=headers)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", await answer.get_data(as_text=True))


async def test_a_failure_is_told_to_operators_alone(client: Client, redis: Redis) -> None:
    """The user's own frames first; the attempts before; the jobs around it; where it ran."""
    error = {"exc_type": "ConnectError", "exc_message": ["refused"], "exc_module": "httpx"}
    store(redis, "SUCCESS", "sender")
    store(
        redis,
        "FAILURE",
        attempts=1,
        result=error,
        traceback=TRACE,
        retries=1,
        worker="celery@here",
        queue="mails",
        parent_id="sender",
        children=[[["child", None], None], [["group", None], [[["member", None], None]]]],
        started_at=SENT,
        date_done=SENT,
    )
    attempt = {"state": "RETRY", "worker": "celery@there", "type": "OSError", "traceback": TRACE}
    redis.rpush("service:attempts:one", json.dumps(attempt))
    redis.expire("service:attempts:one", 60)
    secrets = ["mail.py", "celery@here", "celery@there", "mails", "sender", "child", "OSError"]
    public = await page_of(client, PUBLIC)
    assert [each for each in (*secrets, "Dead letters", "dashboard/jobs") if each in public] == []
    page = await page_of(client, ADMIN)
    assert [each for each in (*secrets, "member", "Dead letters") if each not in page] == []
    for name, value in (("worker", "celery@here"), ("worker", "celery@there"), ("queue", "mails")):
        assert f'href="/dashboard?{name}={value}#jobs-title"' in page.replace("%40", "@")
    own, _, rest = page.partition("All frames, 2 of libraries")
    assert "client.post(address)" in own
    assert "httpx.ConnectError: refused" in own
    assert "site-packages" not in own
    assert "site-packages/celery" in rest


async def test_what_lies_in_the_broker_is_told(client: Client, redis: Redis) -> None:
    """In the queue, which nobody consumes; with a worker; and until it is due."""
    store(redis, "QUEUED")
    message = message_of("one", "demo.my_add", [1, 2])
    more = {"tenant": "acme", "root_id": "first", "tags": ["vip"]}
    message["headers"] |= more  # type: ignore[operator]  # a dict
    redis.lpush("celery", json.dumps(message_of("other", "demo.my_add", [])), json.dumps(message))
    page = await page_of(client, ADMIN)
    assert "No running worker takes jobs from the queue celery." in page
    assert "<dt>Before it in its queue</dt><dd>1</dd>" in page
    assert "<code>tenant</code></dt><dd><code>acme</code>" in page
    assert 'href="/result/first"' in page
    assert "tenant" not in await page_of(client, PUBLIC)
    redis.delete("celery")
    store(redis, "STARTED", started_at=SENT, tags=["vip"])
    redis.hset("unacked", "tag", json.dumps([message, "", "celery"]))
    redis.zadd("unacked_index", {"tag": 1_700_000_000})
    page = await page_of(client, ADMIN)
    assert "<dt>Deliveries</dt><dd>1</dd>" in page
    assert "<dt>Lease renewed</dt>" in page
    assert re.search(r"<dt>Tags</dt><dd><a [^>]*tag=vip[^>]*>vip</a></dd>", page)
    assert "<code>tags</code>" not in page, "they would stand there twice"
    redis.delete("unacked", "unacked_index")


async def test_a_queue_that_no_worker_knows_is_known_by_its_jobs(
    app: Quart, client: Client, redis_url: str
) -> None:
    """Another process has sent them, and none of the settings names it."""
    other = create_app({"SERVICE_REDIS_URL": redis_url})
    async with other.test_app(), other.app_context():
        job = await my_add.options(queue="reprots").enqueue(1, 2)
        signature = get_celery(other).tasks["demo.my_add"].si(1, 2).set(queue="mials")
        await enqueue(chain(signature, signature))
    await wait_until_async(
        lambda: _names(client, "reprots", "mials"), description="the dashboard has both"
    )
    page = await page_of(client, ADMIN, job.id)
    assert "No running worker takes jobs from the queue reprots." in page


async def _names(client: Client, *queues: str) -> bool:
    text = await (await client.get("/dashboard", headers=ADMIN)).get_data(as_text=True)
    return all(f"?queue={queue}" in text for queue in queues)


async def test_the_queue_of_a_job_is_known_by_its_record(client: Client, redis: Redis) -> None:
    """No worker takes from it, and no event of the job was reported."""
    store(redis, "QUEUED", queue="reprots")
    message = json.dumps(message_of("one", "demo.my_add", [1, 2]))
    redis.lpush("reprots", message)
    page = await page_of(client, ADMIN)
    assert "No running worker takes jobs from the queue reprots." in page
    assert "<dt>Before it in its queue</dt><dd>0</dd>" in page
    redis.delete("reprots")
    redis.zadd("reprots.scheduled", {message: 4_070_908_800})
    assert "Run now" in await page_of(client, ADMIN)
    assert (await client.post("/dashboard/jobs/one/now", headers=ADMIN)).status_code == 303
    assert redis.llen("reprots") == 1
    redis.delete("reprots")


async def test_a_queue_without_workers_is_told_of_where_no_message_is_found(
    app: Quart, client: Client, redis: Redis
) -> None:
    """As over RabbitMQ. The record may name a routing key, which leads to a queue with workers."""
    parts, recorder = parts_of(app), dashboard_of(app).recorder
    queue, topic = Queue("mails", routing_key="mail"), Exchange("news", type="topic")
    status = WorkerStatus("solo", 1, 0, {}, ["mails"], 0.0)
    for declared in (queue, Queue("news", topic, routing_key="news.#")):
        parts.celery.get().amqp.queues.add(declared)
    assert await asyncio.to_thread(recorder.report, "w@h", status)

    async def is_told(name: str) -> bool:
        store(redis, "RETRY", queue=name)
        dashboard_of(app).reader.expire()
        return f"No running worker takes jobs from the queue {name}." in await page_of(
            client, ADMIN
        )

    told = {name: await is_told(name) for name in ("reprots", "mails", "mail", "news.old")}
    assert told == {"reprots": True, "mails": False, "mail": False, "news.old": True}
    status = WorkerStatus("solo", 1, 0, {}, ["news"], 0.0)
    assert await asyncio.to_thread(recorder.report, "w@h", status)
    assert not await is_told("news.old"), "which topics a queue takes is not known"
    redis.flushdb()


async def test_a_later_job_says_what_it_waits_for(app: Quart, client: Client, redis: Redis) -> None:
    """The step before it in its chain, or the parts of its chord."""
    add = app.extensions["service"].tasks["demo.my_add"]
    async with app.app_context():
        chained = await enqueue(add.s(1, 2) | add.s(3) | add.s(4))
        body = await enqueue(chord([add.s(1, 2), add.s(3, 4)], add.s(5)))
    for last, number, words in (
        (chained, 1, "Waiting for demo.my_add<"),
        (body, 2, "Waiting for demo.my_add and others<"),
    ):
        assert isinstance(last, Job)
        before = json.loads(str(redis.get(f"{RECORD}{last.id}")))["waits_for"]
        assert len(before) == number
        page = await page_of(client, ADMIN, last.id)
        assert relatives(page, "Waits for") == {*before}
        assert "It is sent when the jobs that it waits for have ended." in page
        assert [each in page for each in (words, "aiting for a worker")] == [True, False]
        for job_id in before:
            store(redis, "SUCCESS", job_id)
        page = await page_of(client, ADMIN, last.id)
        assert "Waiting for a worker" in page
        assert "It is sent when" not in page
    redis.flushdb()


def relatives(page: str, what: str) -> set[str]:
    """The jobs that the graph of a page shows in the row of this name."""
    row = re.search(rf"{what}</span>(.*?)</ul>", page, re.DOTALL)
    return {*re.findall(r'href="/result/([^"]+)"', row[1])} if row else set()


def members(page: str) -> set[str]:
    return relatives(page, "In its group")


async def test_the_members_of_a_group_know_each_other(
    app: Quart, client: Client, redis: Redis
) -> None:
    """Those that were enqueued as one, the parts of a chord, and what another job has sent."""
    add = app.extensions["service"].tasks["demo.my_add"]
    async with app.app_context():
        many = await enqueue(group([add.s(number, 1) for number in range(130)]))
        body = await enqueue(chord([add.s(1, 2), add.s(3, 4)], add.s(5)))
        await asyncio.to_thread(dashboard_of(app).recorder.report)
    before = json.loads(str(redis.get(f"{RECORD}{body.id}")))["waits_for"]
    assert isinstance(many, JobGroup)
    ids = [job.id for job in many.jobs if isinstance(job, Job)]
    page = await page_of(client, ADMIN, ids[1])
    links = members(page)
    assert links <= {*ids}
    assert (ids[1] in links, len(links)) == (False, 50)
    page = await page_of(client, ADMIN, str(before[0]))
    assert members(page) == {before[1]}
    sent = [["one", None], None], [["other", None], None]
    children = [[["inner", None], [[["x", None], None]]], [["g", None], [*sent]]]
    store(redis, "SUCCESS", "sender", children=children)
    store(redis, "SUCCESS", group_id="g", parent_id="sender")
    page = await page_of(client, ADMIN)
    assert members(page) == {"other"}
    redis.flushdb()


async def test_the_body_of_a_chord_and_its_parts_are_in_the_order_in_which_they_ran(
    app: Quart, client: Client, redis: Redis
) -> None:
    """Celery gives the body the group of its parts; its parent is the part that ended last."""
    jobs = {"part": "sender", "last": "sender", "body": "last"}
    recorder = dashboard_of(app).recorder
    for job_id, parent in jobs.items():
        store(redis, "SUCCESS", job_id, group_id="a-chord", parent_id=parent, root_id="sender")
        recorder.record(JobEvent(job_id, "SUCCESS", "demo.my_add", time.time(), group="a-chord"))
    await asyncio.to_thread(recorder.report)
    page = await page_of(client, ADMIN, "body")
    assert (relatives(page, "Waited for"), members(page)) == ({"part", "last"}, set())
    page = await page_of(client, ADMIN, "part")
    assert (relatives(page, "Then"), members(page)) == ({"body"}, {"last"})
    names = re.findall(r'<span class="muted small">([^<]+)</span> <ul>', page)
    assert names == ["Sent by", "This job", "In its group", "Then"]
    redis.flushdb()


async def test_a_retry_can_be_run_now(client: Client, redis: Redis) -> None:
    """Its message is the next one of its queue, and says no time any more."""
    store(redis, "RETRY", due_at="2099-01-01T00:00:00+00:00")
    message = message_of("one", "demo.my_add", [1, 2])
    message["headers"] |= {"eta": "2099-01-01T00:00:00+00:00"}  # type: ignore[operator]  # a dict
    redis.zadd("celery.scheduled", {json.dumps(message): 4_070_908_800})
    assert "Retry now" in await page_of(client, ADMIN)
    assert (await client.post("/dashboard/jobs/one/now", headers=PUBLIC)).status_code == 403
    answer = await client.post("/dashboard/jobs/one/now", headers=ADMIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/result/one")
    stored: Any = redis.lrange("celery", 0, -1)
    assert [json.loads(each)["headers"]["eta"] for each in stored] == [None]
    assert not redis.exists("celery.scheduled")
    again = await client.post("/dashboard/jobs/one/now", headers=ADMIN)
    assert again.status_code == 409
    assert "run now" in await (await client.get("/dashboard/audit", headers=ADMIN)).get_data(True)
    redis.delete("celery")


async def test_a_job_is_run_again_with_other_arguments(client: Client, redis: Redis) -> None:
    """As a new job of the same owner; a mistake is told where it was made."""
    store(redis, "SUCCESS", owner="ada", arguments={"a": 1, "b": 2}, date_done=SENT)
    assert "Run again…" in await page_of(client, ADMIN)
    form = await (await client.get("/dashboard/jobs/one/again", headers=ADMIN)).get_data(True)
    assert re.findall(r' name="([ab])"', form) == ["a", "b"]
    assert re.findall(r'value="([12])"', form) == ["1", "2"]
    wrong = await client.post("/dashboard/jobs/one/again", headers=ADMIN, form={"a": "x", "b": "2"})
    assert wrong.status_code == 400
    assert "argument &#39;a&#39;" in await wrong.get_data(as_text=True)
    answer = await client.post(
        "/dashboard/jobs/one/again", headers=ADMIN, form={"a": "5", "b": "2"}
    )
    assert answer.status_code == 303
    job_id = answer.headers["Location"].rpartition("/")[2]
    record = json.loads(str(redis.get(f"{RECORD}{job_id}")))
    assert (record["owner"], record["arguments"]) == ("ada", {"a": 5, "b": 2})
    public = await client.get("/dashboard/jobs/one/again", headers={"Accept": "application/json"})
    assert public.status_code == 403


async def test_a_cancellation_says_by_whom(client: Client, redis: Redis) -> None:
    """To operators; the public sees that it was cancelled."""
    store(redis, "QUEUED")
    answer = await client.post("/dashboard/jobs/one/cancel", headers=ADMIN)
    assert answer.status_code == 303
    assert "<dt>Cancelled by</dt><dd>admin</dd>" in await page_of(client, ADMIN)
    public = await page_of(client, PUBLIC)
    assert "It was cancelled before it ran." in public
    assert "admin" not in public


async def test_no_worker_can_be_asked_where_remote_control_is_off(
    redis_url: str, redis: Redis
) -> None:
    """Then the page says so; and of a job that does not run, that there is nothing to ask."""
    settings = {"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN}
    app = create_app({**settings, "SERVICE_CELERY__WORKER_ENABLE_REMOTE_CONTROL": False})
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        for state, words in (("STARTED", "Remote control is off"), ("QUEUED", "does not run")):
            store(redis, state, worker="celery@here")
            answer = await client.get("/dashboard/jobs/one/stack", headers=ADMIN)
            assert words in await answer.get_data(as_text=True)
            assert ("Show stack" in await page_of(client, ADMIN)) == (state == "STARTED")


async def test_another_site_cannot_do_any_of_it(client: Client, redis: Redis) -> None:
    """As with the other forms of operators."""
    store(redis, "QUEUED")
    for act in ("cancel", "now", "again"):
        foreign = {**ADMIN, "Sec-Fetch-Site": "cross-site"}
        assert (await client.post(f"/dashboard/jobs/one/{act}", headers=foreign)).status_code == 403
