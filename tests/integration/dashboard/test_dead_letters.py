"""The page of dead letters, whatever they are, and on whichever Redis they lie."""

import json
import re
from collections.abc import AsyncIterator

import pytest
from quart import Quart
from redis import Redis

from service import create_app
from service.broker.dead_letters.model import DeadLetter
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


async def test_letters_that_are_alike_are_replayed_and_dropped_at_once(
    app: Quart, valkey: Valkey
) -> None:
    """With their number said first; no replay is offered where no worker could read the message."""
    client = app.test_client()
    unreadable = {**json.loads(dead_letter("x", "t", [])), "message": "[", "reason": "No JSON."}
    with valkey.client() as redis:
        for number in range(30):
            redis.lpush(DEAD, dead_letter(f"one-{number}", "a.task", [number]))
        redis.lpush(DEAD, dead_letter("two", "another.task", []), json.dumps(unreadable))
        text = await (await client.get(PAGE, headers=HEADERS)).get_data(as_text=True)
        links = re.findall(r'href="([^"]*/many[^"]*)"', text.replace("&amp;", "&"))
        assert [("replay" in link) for link in links].count(True) == 2
        assert [("act=drop" in link) for link in links].count(True) == 3
        groups = text.partition("<tbody>")[2].partition("</tbody>")[0]
        assert len(re.findall(r'href="/result/(one-[0-9]+|two)"', groups)) == 2
        assert groups.count('<svg class="spark"') == 3
        group = DeadLetter.decode(dead_letter("one-1", "a.task", [1])).group
        assert links[0].endswith(f"act=replay&group={group}") or group in "".join(links)
        address = f"{PAGE}/many?act=replay&group={group}"
        asked = await (await client.get(address, headers=HEADERS)).get_data(as_text=True)
        assert "Replay 30 dead letters?" in asked
        until = asked.partition('name="until" value="')[2].partition('"')[0]
        early = await client.post(address, form={"until": "1"}, headers=HEADERS)
        assert early.headers["Location"].endswith("count=0")
        done = await client.post(address, form={"until": until}, headers=HEADERS)
        assert done.headers["Location"].endswith("done=replayed&count=30")
        assert (redis.llen("celery"), redis.llen(DEAD)) == (30, 2)
        broken = DeadLetter.decode(json.dumps(unreadable)).group
        refused = await client.get(f"{PAGE}/many?act=replay&group={broken}", headers=HEADERS)
        assert "There is none to replay" in await refused.get_data(as_text=True)
        address = f"{PAGE}/many?act=drop&group={broken}"
        await client.post(address, form={"until": until}, headers=HEADERS)
        assert redis.llen(DEAD) == 1
    assert (await client.get(f"{PAGE}/many?act=burn", headers=HEADERS)).status_code == 404
    audit = await (await client.get("/dashboard/audit", headers=HEADERS)).get_data(as_text=True)
    assert "30 dead letters: a.task, Delivered 5 times without an end." in audit
    assert "1 dead letters: no task, No JSON." in audit
