"""The page of dead letters, whatever they are, and on whichever Redis they lie."""

import json
from collections.abc import AsyncIterator

import pytest
from quart import Quart
from redis import Redis

from service import create_app
from service.dashboard.extension import dashboard_of
from tests.support.dead import DEAD, dead_letter
from tests.support.valkey import Valkey

TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PAGE = "/dashboard/dead-letters"


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        yield app


async def test_a_page_number_may_be_of_any_size(app: Quart) -> None:
    """Redis could not count so far."""
    answer = await app.test_client().get(f"{PAGE}?page=99999999999999999999", headers=HEADERS)
    assert answer.status_code == 200


@pytest.mark.parametrize("job_id", ["\ud800", "a/b"])
async def test_a_letter_with_an_unusable_id_can_be_shown_and_dropped(
    app: Quart, valkey: Valkey, job_id: str
) -> None:
    """Whoever can publish chooses it."""
    client = app.test_client()
    with valkey.client() as redis:
        redis.lpush(DEAD, dead_letter(job_id, "no.\ud800", []))
        page = await client.get(PAGE, headers=HEADERS)
        assert page.status_code == 200
        action = (await page.get_data(as_text=True)).partition("/drop")[0].rpartition('"')[2]
        dropped = await client.post(f"{action}/drop", headers=HEADERS)
        assert dropped.status_code == 303
        assert redis.llen(DEAD) == 0


async def test_a_message_that_nests_too_deep_is_shown_as_it_is(app: Quart, valkey: Valkey) -> None:
    """Being too deep is what it died of."""
    record = {**json.loads(dead_letter("deep", "t", [])), "message": "[" * 100_000}
    with valkey.client() as redis:
        redis.lpush(DEAD, json.dumps(record))
    assert (await app.test_client().get(PAGE, headers=HEADERS)).status_code == 200


async def test_the_broker_may_have_a_redis_of_its_own(redis_url: str) -> None:
    """The letters, the queues and the deliveries are there, and the job's record is not."""
    broker_url = redis_url.replace("/0", "/1")
    settings = {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_ADMIN_TOKEN": TOKEN,
        "SERVICE_CELERY__BROKER_URL": broker_url,
    }
    app = create_app(settings)
    with Redis.from_url(broker_url) as broker, Redis.from_url(redis_url) as results:
        broker.lpush(DEAD, dead_letter("job", "a.task", []))
        broker.hset("unacked", "tag", "")
        async with app.test_app():
            now = await dashboard_of(app).reader.refresh()
            assert [queue.dead for queue in now.queues] == [1]
            assert now.deliveries == 1
            replayed = await app.test_client().post(f"{PAGE}/job/replay", headers=HEADERS)
        assert replayed.status_code == 303
        assert broker.llen("celery") == 1
        assert not broker.exists(DEAD, "celery-task-meta-job")
        assert '"QUEUED"' in str(results.get("celery-task-meta-job"))
