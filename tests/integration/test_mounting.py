"""Jobs in hosts that are no Quart apps, behind every dispatcher, and without any app context."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware
from hypercorn.utils import LifespanFailureError
from quart import Quart
from starlette.applications import Starlette
from starlette.routing import Mount

from service import Jobs, TaskBlueprint, enqueue
from service.errors import ConfigurationError, NoAppContextError
from service.parts import parts_of
from tests.support.host_app import sell, shop

pytestmark = pytest.mark.quick  # Quart is not the same on every Python


def with_fastapi(jobs: Jobs) -> Any:
    app = FastAPI(lifespan=jobs.lifespan)
    app.mount("/jobs", jobs.asgi())
    return app


def with_starlette(jobs: Jobs) -> Any:
    return Starlette(routes=[Mount("/jobs", app=jobs.asgi())], lifespan=jobs.lifespan)


def with_hypercorn(jobs: Jobs) -> Any:
    # The host passes on the lifespan as well: it is entered twice.
    mounts: dict[str, Any] = {"/jobs": jobs.asgi(), "/": FastAPI(lifespan=jobs.lifespan)}
    return AsyncioDispatcherMiddleware(mounts)


@asynccontextmanager
async def started(app: Any) -> AsyncIterator[None]:
    """The app as a server runs it: lifespan in a task of its own. Raises what the app says."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, to_app.get, from_app.put))
    for event in ("startup", "shutdown"):
        await to_app.put({"type": f"lifespan.{event}"})
        said = asyncio.create_task(from_app.get())
        await asyncio.wait([task, said], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if not said.done():
            said.cancel()
            await task
        elif said.result()["type"] != f"lifespan.{event}.complete":
            await asyncio.wait([task], timeout=20)
            task.exception()
            raise RuntimeError(said.result()["message"])
        if event == "startup":
            yield
    await asyncio.wait_for(task, 20)


def client_of(app: Any, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.mark.parametrize("root_path", ["", "/app"])
@pytest.mark.parametrize("host", [with_fastapi, with_starlette, with_hypercorn])
async def test_every_host_serves_jobs(
    host: Callable[[Jobs], Any], root_path: str, redis_url: str
) -> None:
    """With links that lead back through the mount, and through a proxy that strips its prefix."""
    jobs = Jobs(tasks=[shop], config={"SERVICE_REDIS_URL": redis_url})
    app = host(jobs)
    async with started(app), client_of(app, root_path) as client:
        answer = await client.post("/jobs/tasks/shop.sell", json={"item": "tea"})
        assert answer.status_code == 202, answer.text
        address = answer.json()["result_url"]
        assert address == f"{root_path}/jobs/result/{answer.json()['id']}"
        page = await client.get(address.removeprefix(root_path), headers={"Accept": "text/html"})
        assert f'src="{root_path}/jobs/static/js/front.js"' in page.text
        assert (await client.get("/jobs/static/js/front.js")).status_code == 200
        front = await client.get("/jobs/", headers={"Accept": "text/html"})
        assert f'action="{root_path}/jobs/start/shop.sell"' in front.text
        assert (await client.get("/jobs/nothing")).json()["title"] == "Not Found"


async def test_a_handler_enqueues_without_an_app_context(redis_url: str) -> None:
    """Async, from a thread, and by signatures; each time the lifespan is entered anew."""
    jobs = Jobs(tasks=[shop], config={"SERVICE_REDIS_URL": redis_url})
    app = with_fastapi(jobs)

    @app.post("/async")  # type: ignore[untyped-decorator]  # `app` is any host
    async def send() -> list[str]:
        sent = await sell.options(countdown=1).enqueue("tea")
        return [(await sell.enqueue("tea")).id, sent.id, (await enqueue(sell.s("tea"))).id]

    @app.post("/sync")  # type: ignore[untyped-decorator]
    def delay() -> list[str]:
        return [sell.delay("tea").id]

    for _ in range(2):
        async with started(app), client_of(app) as client:
            for path in ("/async", "/sync"):
                for job_id in (await client.post(path)).json():
                    found = await client.get(f"/jobs/result/{job_id}")
                    assert found.json()["task"] == "shop.sell"


async def test_two_hosts_do_not_mix(redis_url: str) -> None:
    """Each task belongs to the one that serves it; one of both has to be told which is meant."""
    other = TaskBlueprint("other")
    mine = other.task(name="other.mine")(sell.function)
    config = {"SERVICE_REDIS_URL": redis_url}
    apart = {"SERVICE_REDIS_URL": f"{redis_url.rpartition('/')[0]}/1"}
    with pytest.raises(NoAppContextError, match="served by no app"):
        await sell.enqueue("tea")
    with pytest.raises(NoAppContextError):
        await enqueue("no signature")
    one, two = Jobs(tasks=[shop], config=config), Jobs(tasks=[other], config=apart)
    async with one.lifespan(), two.lifespan():
        jobs = {one: await sell.enqueue("tea"), two: await mine.enqueue("tea")}
        for each, job in jobs.items():
            assert (await parts_of(each.app).store.get(job.id)).task == job.task
        async with Jobs(tasks=[shop], config=apart).lifespan():
            with pytest.raises(NoAppContextError, match="served by 2 apps"):
                await sell.enqueue("tea")
            async with one.app.app_context():
                await sell.enqueue("tea")


@pytest.mark.parametrize("host", [with_fastapi, with_starlette, with_hypercorn])
async def test_what_keeps_jobs_from_starting_reaches_the_host(
    host: Callable[[Jobs], Any], redis_url: str
) -> None:
    """A server that went on without them would answer with errors for ever."""
    bad = {"SERVICE_REDIS_URL": redis_url, "SERVICE_CELERY__TASK_SERIALIZER": "pickle"}
    app = host(Jobs(tasks=[shop], config=bad))
    with pytest.raises((RuntimeError, LifespanFailureError, ExceptionGroup)) as caught:
        async with started(app):
            pass
    error: BaseException = caught.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert "TASK_SERIALIZER" in str(error)


async def test_what_is_mounted_without_being_started_says_so() -> None:
    """Starlette does not run the lifespan of what it mounts."""
    app = FastAPI()
    app.mount("/jobs", Jobs(tasks=[shop]).asgi())
    async with client_of(app) as client:
        with pytest.raises(ConfigurationError, match=r"FastAPI\(lifespan=jobs\.lifespan\)"):
            await client.get("/jobs/tasks")


async def test_the_workers_lifespan_is_for_workers(redis_url: str) -> None:
    """A web process opens what it needs by the host's own."""
    entered: list[Quart] = []

    @asynccontextmanager
    async def resources(app: Quart) -> AsyncIterator[None]:
        entered.append(app)
        yield

    config = {"SERVICE_REDIS_URL": redis_url}
    async with Jobs(tasks=[shop], config=config, worker_lifespan=resources).lifespan():
        await sell.enqueue("tea")
    assert entered == []
