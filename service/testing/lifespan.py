"""Starts an app and a runner of its jobs, and ends both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quart import Quart

from service.broker.checks.startup import UNCHECKED
from service.extension import Jobs
from service.parts import parts_of
from service.redis.clients import redis_urls
from service.testing.runner import JobRunner
from service.testing.server import are_own


def app_of(host: Quart | Jobs) -> Quart:
    """The app that has the jobs."""
    return host.app if isinstance(host, Jobs) else host


def redis_of(host: Quart | Jobs) -> str:
    """The address of the Redis that the app is configured with."""
    return parts_of(app_of(host)).settings.redis_url


@asynccontextmanager
async def _lifespan(app: Quart) -> AsyncIterator[None]:
    await app.startup()
    try:
        yield
    finally:
        await app.shutdown()


@asynccontextmanager
async def _serving(runner: JobRunner, host: Quart | Jobs) -> AsyncIterator[None]:
    try:
        async with host.lifespan() if isinstance(host, Jobs) else _lifespan(host):
            try:
                runner.start()
                yield
            finally:
                await runner.stop()
    finally:
        await runner.close()


@asynccontextmanager
async def run_jobs(host: Quart | Jobs) -> AsyncIterator[JobRunner]:
    """Start an app that has jobs, and run its jobs on the running event loop.

    `host` is a Quart app, which must not have been started, or the Jobs of a host of another kind.
    The Redis that it is configured with has to be there. Raises what keeps the app from starting.
    """
    app = app_of(host)
    if are_own(redis_urls(parts_of(app).settings)):
        app.extensions[UNCHECKED] = True
    runner = JobRunner(app)
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ending = asyncio.Event()

    async def serve() -> None:
        try:
            async with _serving(runner, host):
                started.set_result(None)
                await ending.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    # In one task: what the app opens may refuse to be closed in another, and a fixture has two.
    serving = asyncio.create_task(serve())
    await started
    try:
        yield runner
    finally:
        ending.set()
        await serving
