"""`/healthz` and `/readyz`, as Kubernetes asks for them."""

import asyncio
from contextlib import closing
from typing import Any, NoReturn

from quart import Quart

from service import create_app
from service.parts import parts_of
from service.results.follower import NoChange
from service.tasks.demo import my_add
from tests.support.ports import free_port
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

BY_ADDRESS = {"Host": "10.1.2.3:8000"}


async def probe(app: Quart, path: str) -> tuple[int, str]:
    """The status, and what a problem says."""
    answer = await app.test_client().get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = await answer.get_json()
    return answer.status_code, found.get("detail", "")


async def test_redis_that_is_silent_makes_it_not_ready_but_never_unhealthy(
    own_valkey: Valkey,
) -> None:
    """Kubernetes restarts nothing for an outage; and many probes are one question to Redis."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url})
    async with app.test_app():
        with own_valkey.client() as redis:
            redis.config_resetstat()
            answers = await asyncio.gather(*(probe(app, "/readyz") for _ in range(30)))
            assert {status for status, _ in answers} == {200}
            stats: Any = redis.info("commandstats")
            assert stats["cmdstat_ping"]["calls"] <= 2  # a connection may ask for itself
        own_valkey.freeze()
        try:
            silent = await wait_until_async(
                lambda: _unless_ready(app), description="/readyz tells of the outage"
            )
            assert silent == (503, "Redis does not answer within 0.5 s.")
            assert await probe(app, "/healthz") == (200, "")
        finally:
            own_valkey.thaw()
        await wait_until_async(
            lambda: _is_ready(app), description="/readyz tells that Redis is back"
        )


async def _unless_ready(app: Quart) -> tuple[int, str] | None:
    answer = await probe(app, "/readyz")
    return None if answer[0] == 200 else answer


async def _is_ready(app: Quart) -> bool:
    return await _unless_ready(app) is None


async def test_no_limit_and_no_name_keeps_a_probe_out(redis_url: str) -> None:
    """They come by a pod's address, all from one, and whoever asks is not looked for."""

    def identify(_: object) -> NoReturn:
        raise AssertionError("A probe has no caller.")

    limits = {"SERVICE_LIMITS": "requests=1/1h", "SERVICE_TRUSTED_HOSTS": "jobs.example"}
    app = create_app({"SERVICE_REDIS_URL": redis_url, **limits}, identify=identify)
    async with app.test_app():
        client = app.test_client()
        for path in ("/healthz", "/readyz") * 3:
            answer = await client.get(path, headers=BY_ADDRESS)
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers
            assert (await client.head(path, headers=BY_ADDRESS)).status_code == 200
        assert (await client.get("/tasks", headers=BY_ADDRESS)).status_code == 421
        assert (await client.get("/healthz", headers={"Host": "a b"})).status_code == 400


async def test_it_is_ready_from_its_start_to_its_stop(redis_url: str) -> None:
    """A proxy that asks sends nothing more to a process that is about to go."""
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    assert await probe(app, "/readyz") == (503, "The start-up is not done.")
    async with app.test_app():
        assert await probe(app, "/readyz") == (200, "")
        parts_of(app).watcher.stop()  # as the middleware does when the server begins to stop
        assert await probe(app, "/readyz") == (503, "The process is stopping.")
        assert await probe(app, "/healthz") == (200, "")


async def test_an_app_that_is_started_again_is_ready_again(redis_url: str) -> None:
    """And its streams do not end at once: nothing of the stop before is left."""
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    for _ in range(2):
        async with app.test_app():
            assert await probe(app, "/readyz") == (200, "")
            async with app.app_context():
                job = await my_add.enqueue(1, 2)
            with closing(await parts_of(app).watcher.follow(job.id, interval=0.01)) as follower:
                assert await anext(follower, None) is NoChange.QUIET
        assert await probe(app, "/readyz") == (503, "The start-up is not done.")


async def test_a_broker_of_another_kind_is_asked_as_well(redis_url: str) -> None:
    """The problem says which of the two it is."""
    away = f"amqp://127.0.0.1:{free_port()}//"
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__BROKER_URL": away})
    async with app.test_app():
        assert await probe(app, "/readyz") == (503, "RabbitMQ is not available.")
        client = app.test_client()
        for answer in (
            await client.post("/tasks/demo.my_add", json={"a": 1, "b": 2}),
            await client.get("/", headers={"Accept": "application/json"}),
        ):
            assert answer.status_code == 503
            assert (await answer.get_json())["detail"] == "RabbitMQ is not available."


async def test_a_redis_of_the_brokers_own_is_asked_as_well(redis_url: str) -> None:
    """Where the results have another one."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__BROKER_URL": away})
    async with app.test_app():
        assert await probe(app, "/readyz") == (503, "The broker is not available.")
