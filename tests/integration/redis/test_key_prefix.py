"""Services that share a Redis by `global_keyprefix` keep out of each other's keys."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from service import create_app
from service.dashboard.events.recent import Query
from service.dashboard.extension import dashboard_of
from tests.support.broker import POOLS
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.workers import worker_process

BROKER = "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS"
RESULTS = "SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS"
BOTH = (BROKER, RESULTS)


def service(redis_url: str, prefix: str, options: tuple[str, ...]) -> Quart:
    settings: dict[str, Any] = {name: {"global_keyprefix": prefix} for name in options}
    return create_app({"SERVICE_REDIS_URL": redis_url, **settings})


@pytest.mark.parametrize(
    "options", [BOTH, (BROKER,), (RESULTS,)], ids=["both", "broker", "results"]
)
async def test_neither_jobs_nor_figures_nor_idempotency_keys_are_mixed(
    redis_url: str, options: tuple[str, ...]
) -> None:
    """Whichever of Celery's two options has the prefix."""
    ours, theirs = (service(redis_url, prefix, options) for prefix in ("one:", "two:"))
    async with ours.test_app(), theirs.test_app():
        ids = []
        for app in (ours, theirs):
            answer = await app.test_client().post(
                "/tasks/demo.my_add", json={"a": 1, "b": 2}, headers={"Idempotency-Key": "k"}
            )
            ids.append((await answer.get_json())["id"])
            dashboard_of(app).recorder.report("w@h")
        assert ids[0] != ids[1]
        for app, id_ in zip((ours, theirs), ids, strict=True):
            reader = dashboard_of(app).reader
            while not (now := await reader.refresh()).tasks:  # noqa: ASYNC110  the app may report it
                await asyncio.sleep(0.01)
            assert now.jobs == 1
            assert reader.jobs.find(Query()).jobs[0].id == id_
            assert now.tasks["demo.my_add"].queued == 1


async def test_the_prefix_is_on_every_key(redis_url: str, valkey: Valkey) -> None:
    """So that the rights of a Redis user can be limited to it."""
    app = service(redis_url, "one:", BOTH)
    async with app.test_app():
        await app.test_client().post(
            "/tasks/demo.my_add", json={"a": 1, "b": 2}, headers={"Idempotency-Key": "k"}
        )
    with valkey.client() as redis:
        assert [key for key in redis.scan_iter() if not key.startswith("one:")] == []


@pytest.mark.parametrize("pool", POOLS)
def test_a_user_with_rights_to_its_prefix_alone_can_run_a_worker(
    valkey: Valkey, redis_url: str, tmp_path: Path, pool: str
) -> None:
    """Keys and channels alike. The start-up check tries commands on a key of the same prefix."""
    limited = redis_url.replace("//", "//limited:secret@")
    options = dict.fromkeys(BOTH, '{"global_keyprefix": "one:"}')
    with valkey.client() as redis:
        rights = ("on", ">secret", "~one:*", "resetchannels", "&one:*", "+@all")
        redis.execute_command("ACL", "SETUSER", "limited", *rights)
        try:
            with worker_process(pool, limited, tmp_path, **options) as worker:
                worker.wait_for_output(r"ready\.")
                assert "may not" not in worker.output
                wait_until(
                    lambda: "one:/0.celery.pidbox" in redis.pubsub_channels(),
                    description="the worker listens to remote control",
                )
                assert worker.output.count("Connected to") == 1
        finally:
            redis.execute_command("ACL", "DELUSER", "limited")
