"""`/metrics` of a web process, as Prometheus reads it."""

import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from service import Caller, Jobs, create_app
from service.errors import ConfigurationError
from service.metrics.extension import metrics_of
from service.metrics.queues import MAX_QUEUES
from service.parts import parts_of
from service.redis.keys import broker_keys
from service.signals import WorkerStatus
from service.tasks.demo import my_add
from tests.support.metrics import Scraped, scraped
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.site import TOKEN
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

GUIDE = (ROOT / "service/docs/operating.md").read_text()
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ON = {"SERVICE_METRICS": "on", "SERVICE_ADMIN_TOKEN": TOKEN}


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({**ON, "SERVICE_REDIS_URL": redis_url, "SERVICE_LIMITS": "starts=1/1d"})
    async with app.test_app():
        yield app


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client(use_cookies=False)


async def scrape_now(client: Client) -> Scraped:
    answer = await client.get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return scraped(await answer.get_data(as_text=True))


async def test_all_metrics_are_in_the_guide(app: Quart, client: Client) -> None:
    """With types and help, and also before anything has happened; the alerts name no other."""
    status = WorkerStatus(
        pool="x", capacity=9, running=1, deliveries={"q": 1}, queues=[], started_at=0, lease_age=1
    )
    metrics_of(app).counts.record_worker("a worker", status)
    found = await scrape_now(client)
    assert found.value("jobs_capacity") == 9
    assert found.value("jobs_held", queue="q") == 1
    names = {
        f"{name}_total" if family.type == "counter" else name
        for name, family in found.families.items()
    }
    (section,) = re.findall(r"^### Metrics\n(.*?)^### ", GUIDE, re.DOTALL | re.MULTILINE)
    table = "".join(re.findall(r"^\| `.*? \|", section, re.MULTILINE))
    assert set(re.findall(r"`(jobs_\w+)", table)) == names
    used = {name.removesuffix("_bucket") for name in re.findall(r"\b(jobs_\w+)", section)}
    assert used <= names


async def test_every_task_is_there_before_it_runs(app: Quart, client: Client) -> None:
    """So that the first failure is an increase, too."""
    found = await scrape_now(client)
    assert found.labels("task") == {*parts_of(app).tasks}
    assert found.value("jobs_enqueued_total", task="demo.my_add") == 0
    assert found.value("jobs_ended_total", task="demo.my_add", state="FAILURE") == 0


async def test_it_is_served_under_any_name(redis_url: str) -> None:
    """Prometheus finds pods by their addresses. The token is asked for all the same."""
    by_address = {"Host": "10.1.2.3:8000"}
    app = create_app(
        {**ON, "SERVICE_REDIS_URL": redis_url, "SERVICE_TRUSTED_HOSTS": "jobs.example"}
    )
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        assert (await client.get("/metrics", headers={**BEARER, **by_address})).status_code == 200
        assert (await client.get("/metrics", headers=by_address)).status_code == 401
        assert (await client.get("/tasks", headers={**BEARER, **by_address})).status_code == 421


async def test_what_is_enqueued_and_waits(app: Quart, client: Client, valkey: Valkey) -> None:
    """Counted by the process that enqueues; the queue is read from Redis."""
    async with app.app_context():
        await my_add.enqueue(1, 2)
        await my_add.options(priority=6).enqueue(1, 2)
    names = broker_keys(parts_of(app).celery.get().conf)
    now = datetime.now(UTC).timestamp()
    with valkey.client() as redis:
        redis.zadd(names.scheduled_of("celery")[0], {"due": now - 600, "later": now + 600})
        redis.zadd(names.scheduled_of("celery")[1], {"cancelled": 0})
        redis.lpush(names.dead_letters_of("celery"), "a letter")
        redis.hset(names.in_flight[0], "a tag", "a delivery")
        redis.hset(names.paused_tasks, "bad", "{}")
        list_ = names.lists_of("celery")[2]
        paused, resumed = (names.list_of_paused(list_, task) for task in ("bad", "good"))
        redis.lpush(paused, "one", "two")
        redis.lpush(resumed, "three")
        redis.hset(names.paused_lists, mapping={paused: list_, resumed: list_})
    found = await scrape_now(client)
    assert found.value("jobs_enqueued_total", task="demo.my_add") == 2
    assert found.value("jobs_redis_up") == 1
    assert found.value("jobs_in_flight") == 1
    assert found.value("jobs_queue_length", queue="celery") == 5  # with what nobody took since
    assert found.value("jobs_queue_paused", queue="celery") == 2
    assert found.value("jobs_queue_scheduled", queue="celery") == 1
    assert found.value("jobs_dead_letters", queue="celery") == 1
    assert 600 <= (found.value("jobs_queue_oldest_seconds", queue="celery") or 0) < 700


@pytest.mark.leaves("keys", reason="a text under the name of a queue")
async def test_the_age_is_that_of_the_oldest_message(
    app: Quart, client: Client, valkey: Valkey
) -> None:
    """By its own word. Whatever else is stored under the name of a queue is no reason to fail."""
    async with app.app_context():
        await my_add.enqueue(1, 2)
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    with valkey.client() as redis:
        redis.rpush("celery", f'{{"body": "", "headers": {{"queued_at": "{an_hour_ago}"}}}}')
        redis.set(broker_keys({}).lists_of("celery")[2], "no list", ex=60)
    found = await scrape_now(client)
    assert 3600 <= (found.value("jobs_queue_oldest_seconds", queue="celery") or 0) < 3700
    assert found.value("jobs_queue_length", queue="celery") == 2


async def test_nothing_waits(client: Client) -> None:
    """Then the oldest is of age 0: an alert on it ends."""
    found = await scrape_now(client)
    assert found.value("jobs_queue_oldest_seconds", queue="celery") == 0


async def test_scrapes_of_a_second_share_a_reading_and_queues_are_bounded(
    app: Quart, client: Client, valkey: Valkey
) -> None:
    """However many queues there are, and however many scrape."""
    celery: Any = parts_of(app).celery.get()  # celery-types: a queue as an object alone
    for number in range(MAX_QUEUES * 2):
        celery.amqp.queues.add(f"queue-{number}")
    with valkey.client() as redis:
        redis.config_resetstat()
        found = [await scrape_now(client) for _ in range(4)][-1]
        calls = redis.info("commandstats")["cmdstat_hgetall"]["calls"]
    assert len(found.labels("queue")) == MAX_QUEUES
    assert calls < 4


async def test_a_queue_that_only_workers_know_is_told_of(client: Client, valkey: Valkey) -> None:
    """They report which they take from, to the dashboard."""
    status = b'{"pool":"x","capacity":1,"running":0,"held":{},"queues":["mail"],"started_at":0}'
    with valkey.client() as redis:
        redis.hset("service:workers", "a worker", status)
        redis.expire("service:workers", 60)

    async def is_told_of() -> bool:
        return "mail" in (await scrape_now(client)).labels("queue")

    await wait_until_async(is_told_of, timeout=30, description="the queue is told of")


async def test_limits_that_refuse_are_counted(client: Client) -> None:
    """By the name of the limit; of a request that is refused nothing is enqueued."""
    before = (await scrape_now(client)).value("jobs_requests_refused_total", limit="starts") or 0
    for status in (202, 429):
        answer = await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2})
        assert answer.status_code == status
    found = await scrape_now(client)
    assert found.value("jobs_requests_refused_total", limit="starts") == before + 1
    assert found.value("jobs_enqueued_total", task="demo.my_add") == 1


async def test_only_those_who_may_watch_scrape(redis_url: str) -> None:
    """The admin token, a role, or a token with the scope viewer."""

    def identify(request: object) -> Caller | None:
        name = getattr(request, "headers", {}).get("X-User")
        return Caller(name, {name}) if name else None

    app = create_app({**ON, "SERVICE_REDIS_URL": redis_url}, identify=identify)
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer of-something-else"}, 401),
            ({"X-User": "someone"}, 403),
            ({"X-User": "viewer"}, 200),
            (BEARER, 200),
        ):
            answer = await client.get("/metrics", headers=headers)
            assert answer.status_code == status, headers


async def test_a_host_has_it_under_the_prefix(redis_url: str) -> None:
    """Beside the other addresses of jobs."""
    app = Quart(__name__)
    Jobs(app, url_prefix="/jobs", config={**ON, "SERVICE_REDIS_URL": redis_url})
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        assert (await client.get("/jobs/metrics", headers=BEARER)).status_code == 200
        assert (await client.get("/metrics", headers=BEARER)).status_code == 404


async def test_off_it_is_not_there(redis_url: str) -> None:
    """And nobody listens for it."""
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        answer = await app.test_client(use_cookies=False).get("/metrics", headers=BEARER)
    assert answer.status_code == 404
    assert "service.metrics" not in app.extensions
    assert len(parts_of(app).signals.job_changed.receivers) == 1  # the dashboard's


async def test_the_rest_is_served_while_redis_is_silent(own_valkey: Valkey) -> None:
    """With `jobs_redis_up 0`; it is 1 again when Redis is back."""
    app = create_app({**ON, "SERVICE_REDIS_URL": own_valkey.url})
    async with app.test_app():
        client = app.test_client(use_cookies=False)
        assert (await scrape_now(client)).value("jobs_redis_up") == 1
        own_valkey.freeze()
        try:
            await wait_until_async(
                lambda: _redis_is_up(client, 0), timeout=30, description="Redis counts as away"
            )
            found = await scrape_now(client)
            assert found.value("jobs_enqueued_total", task="demo.my_add") == 0
            assert found.labels("queue") == set()
        finally:
            own_valkey.thaw()
        await wait_until_async(
            lambda: _redis_is_up(client, 1), timeout=30, description="Redis counts as back"
        )


async def _redis_is_up(client: Client, value: float) -> bool:
    return (await scrape_now(client)).value("jobs_redis_up") == value


async def test_a_port_of_its_own_needs_no_token(redis_url: str) -> None:
    """A second process that is given it waits until the first one has ended."""
    config = {"SERVICE_METRICS_PORT": str(free_port()), "SERVICE_REDIS_URL": redis_url}
    url = f"http://127.0.0.1:{config['SERVICE_METRICS_PORT']}/metrics"
    first, second = create_app(config), create_app(config)

    async def number_enqueued() -> float | None:
        async with httpx.AsyncClient() as http:
            try:
                answer = await http.get(url)
            except httpx.TransportError:
                return None
        return scraped(answer.text).value("jobs_enqueued_total", task="demo.my_add")

    async with first.test_app():

        async def is_served() -> bool:
            return await number_enqueued() == 0

        await wait_until_async(is_served, timeout=30, description="the first one serves")
        await second.startup()
    try:
        async with second.app_context():
            await my_add.enqueue(1, 2)

        async def is_taken_over() -> bool:
            return await number_enqueued() == 1

        await wait_until_async(is_taken_over, timeout=30, description="the second one serves")
    finally:
        await second.shutdown()


@pytest.mark.parametrize("setting", ["SERVICE_METRICS", "SERVICE_METRICS_PORT"])
def test_without_the_extra_one_sentence_says_what_to_install(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Web and worker make their app in the same way."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    value = "on" if setting == "SERVICE_METRICS" else "9000"
    with pytest.raises(ConfigurationError, match=r"pip install .*\[metrics\]"):
        create_app({setting: value})


async def test_the_lag_of_the_event_loop_is_seen(app: Quart, client: Client) -> None:
    """A turn that takes long is counted as such."""
    metrics = metrics_of(app)

    def samples() -> int:
        return sum(metrics.counts.lag().numbers)

    await wait_until_async(lambda: samples() > 0, timeout=30, description="the loop is watched")
    found = await scrape_now(client)
    assert (found.value("jobs_event_loop_lag_seconds_count") or 0) >= 1
