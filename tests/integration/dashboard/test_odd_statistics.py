"""What others wrote into the dashboard's keys is passed over, and the rest is shown."""

import json
import time
from typing import Any

import pytest
from redis import Redis

from service import create_app
from service.dashboard.events.stats import STEP, bucket_of
from service.parts import parts_of
from service.redis.keys import ResultKeys

TOKEN = "a-token-for-this-test"  # noqa: S105  of an app that lives for a test
ADMIN = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
ODD: Any = {
    "ok\x1fodd": "many",
    "failed\x1fodd": "1" * 400,
    "retried\x1fodd": "1.5",
    b"ok\x1f\xff": "1",
    "t99999\x1fodd": "1",
    "t99\x1fodd": "1",
    "t\u0663\x1fodd": "1",
    "ms\x1fodd": "-7",
    "": "1",
}


def write_odd(redis: Redis, keys: ResultKeys) -> None:
    """Something odd under each key that the dashboard reads."""
    for number in range(bucket_of(time.time()) - 3, bucket_of(time.time()) + 2):
        redis.hset(keys.stats(number, STEP), mapping={**ODD, "ok\x1fgood.task": "6"})
        redis.expire(keys.stats(number, STEP), 60)
    redis.set(keys.stats(bucket_of(time.time()) - 9, STEP), "no hash", ex=60)
    for status in ("no json", "[]", "{}", "7"):
        redis.hset(keys.workers, f"worker-{status}", status)
    redis.zadd(keys.workers_seen, {"worker-{}": float("inf"), "other": float("-inf")})
    redis.expire(keys.workers, 60)
    redis.expire(keys.workers_seen, 60)
    odd = [
        ["odd", "SUCCESS", "odd", 1e308, None, None, -1e308, 1e308],
        ["early", "RETRY", "", -1e18],
    ]
    for rows in ("no json", "[]", "[7]", json.dumps(odd)):
        redis.xadd(keys.recent_jobs, {"rows": rows})
    redis.xadd(keys.recent_jobs, {"other": "field"})
    redis.expire(keys.recent_jobs, 60)


@pytest.mark.leaves("keys", reason="one of another type is what it is about")
async def test_the_dashboard_is_shown_whatever_its_keys_hold(redis_url: str) -> None:
    """One field that is no number has been a 500 for an hour."""
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_ADMIN_TOKEN": TOKEN})
    async with app.test_app():
        with Redis.from_url(redis_url) as redis:
            write_odd(redis, parts_of(app).keys)
        client = app.test_client()
        for path in ("/dashboard", "/dashboard?sort=started", "/dashboard?sort=run"):
            page = await client.get(path, headers=ADMIN)
            assert page.status_code == 200
            assert "good.task" in await page.get_data(as_text=True)
        news = await client.get("/dashboard/news", headers={**ADMIN, "Accept": "application/json"})
        assert news.status_code == 200
        assert (await client.get("/dashboard/dead-letters", headers=ADMIN)).status_code == 200
