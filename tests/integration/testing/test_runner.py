"""`service.testing` runs an app's jobs on the loop of the test."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import chain, chord, group
from quart import Quart, current_app
from redis import Redis

from service import Jobs, TaskBlueprint, current_job, enqueue, get_celery
from service.broker.pauses import Kind, pause, resume
from service.errors import JobFailedError
from service.parts import parts_of
from service.testing import JobRunner, run_jobs

tasks = TaskBlueprint("tested")
log: list[Any] = []


@tasks.task(public=True)
async def add(a: int, b: int) -> int:
    return a + b


@tasks.task
async def where() -> list[Any]:
    """The loop, and what the lifespan of workers has opened."""
    log.append(asyncio.get_running_loop())
    return [current_app.extensions["tested"], current_job.task]


@tasks.task
def in_thread(day: datetime) -> datetime:
    log.append(threading.current_thread().name)
    return day + timedelta(days=1)


@tasks.task
async def fail(word: str) -> None:
    raise LookupError(word)


@tasks.task(bind=True, max_retries=2)
async def fail_twice(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=3600)
    return int(self.request.retries)


@tasks.task
async def order(item: str) -> str:
    await note.options(queue="paper").enqueue(item)
    return item


@tasks.task
async def note(item: str) -> None:
    log.append(item)


@tasks.task
async def wait_for_another() -> int:
    job = await add.enqueue(1, 1)
    return await job.result()


@tasks.task
def wait_as_celery_does() -> int:
    value = int(add.delay(2, 2).get(timeout=20))
    # The garbage collector would close its connections, and now and then warn of their sockets.
    backend: Any = get_celery(current_app).backend
    backend.result_consumer.stop()
    backend.client.connection_pool.disconnect()
    return value


@tasks.task
async def sleep() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def resources(app: Quart) -> AsyncIterator[None]:
    app.extensions["tested"] = "open"
    async with asyncio.timeout(None):  # refuses to be left in another task
        yield


@pytest.fixture
def jobs_app(request: pytest.FixtureRequest, jobs_redis_url: str) -> Quart | Jobs:
    log.clear()
    jobs = Jobs(tasks=[tasks], worker_lifespan=resources)
    if getattr(request, "param", "quart") == "mounted":
        return jobs
    app = Quart(__name__)
    jobs.init_app(app)
    return app


@pytest.mark.parametrize("jobs_app", ["quart", "mounted"], indirect=True)
async def test_a_job_runs_on_the_loop_of_the_test(jobs: JobRunner) -> None:
    """So that it can use what the test's fixtures have opened there."""
    assert await jobs.run(add, 1, b=2) == 3
    assert await jobs.run(where) == ["open", "tested.where"]
    assert log == [asyncio.get_running_loop()]
    day = datetime(2026, 1, 1, tzinfo=UTC)
    assert await jobs.run(in_thread, day) == day + timedelta(days=1)
    assert log[-1].startswith("sync-body")


async def test_what_was_enqueued_is_known_before_and_after_it_ran(jobs: JobRunner) -> None:
    """By every way; `run` leaves what its job enqueues alone, and `drain` does not."""
    job = await add.enqueue(1, b=2)
    in_thread.delay(datetime(2026, 1, 1, tzinfo=UTC))
    assert await jobs.run(order, "tea") == "tea"
    assert log == []
    (sent,) = jobs.enqueued(note)
    assert (sent.args, sent.kwargs, sent.queue) == (("tea",), {}, "paper")
    assert [each.task for each in jobs.enqueued()] == [
        "tested.add",
        "tested.in_thread",
        "tested.order",
        "tested.note",
    ]
    await jobs.drain()
    assert log[1:] == ["tea"]
    assert await job.result(timeout=20) == 3
    (sent,) = jobs.enqueued(add)
    assert (sent.id, sent.args, sent.kwargs) == (job.id, (1,), {"b": 2})
    assert jobs.enqueued(in_thread)[0].args == (datetime(2026, 1, 1, tzinfo=UTC),)


async def test_a_failure_is_the_error_of_the_body(jobs: JobRunner) -> None:
    """With the line that raised it; from several jobs, all of them."""
    with pytest.raises(LookupError, match="lost") as caught:
        await jobs.run(fail, "lost")
    assert caught.traceback[-1].name == "fail"
    await fail.enqueue("a")
    with pytest.raises(LookupError, match="a"):
        await jobs.drain()
    await fail.enqueue("b")
    job = await fail.enqueue("c")
    with pytest.raises(ExceptionGroup) as group_:
        await jobs.drain()
    assert [str(error) for error in group_.value.exceptions] == ["b", "c"]
    with pytest.raises(JobFailedError):
        await job.result()
    await fail.enqueue("unseen")
    await jobs.drain(raises=False)
    assert "raise LookupError(word)" in jobs.report()
    assert "unseen" in jobs.report()
    assert "lost" not in jobs.report()


async def test_time_is_moved(jobs: JobRunner) -> None:
    """For countdowns, ETAs and the retries that come of them, in their order."""
    await note.options(countdown=7200).enqueue("later")
    await note.options(eta=datetime.now(UTC) + timedelta(hours=1)).enqueue("soon")
    await fail_twice.enqueue()
    await jobs.drain()
    assert log == []
    await jobs.advance(timedelta(minutes=61))
    assert log == ["soon"]
    await jobs.advance(3600)
    assert log == ["soon", "later"]
    (sent,) = jobs.enqueued(fail_twice)
    assert (await jobs.app.extensions["service"].store.get(sent.id)).result == 2


@pytest.mark.parametrize(("kind", "name"), [(Kind.TASK, "tested.note"), (Kind.QUEUE, "celery")])
async def test_what_is_paused_waits_until_it_is_resumed(
    jobs: JobRunner, kind: Kind, name: str
) -> None:
    """The test goes on meanwhile; so much waits that one look does not see all of it."""
    redis, celery = parts_of(jobs.app).broker_redis, get_celery(jobs.app).conf
    await note.options(countdown=3600).enqueue("later")
    await pause(redis, celery, kind, name, by="ada")
    for number in range(120):
        await note.enqueue(str(number))
    await jobs.drain()
    with pytest.raises(AssertionError, match="is paused"):
        await jobs.run(note, "run")
    await jobs.advance(3600)
    assert await jobs.run(add.options(queue="other"), 1, 2) == 3
    assert log == []
    assert len(jobs.enqueued(note)) == 122
    assert await resume(redis, celery, kind, name)
    await jobs.drain()
    await jobs.advance(3600 if kind is Kind.QUEUE else 0)  # none passed for its jobs
    assert sorted(log) == sorted(("later", "run", *map(str, range(120))))


async def test_run_waits_for_no_time(jobs: JobRunner) -> None:
    """The value of a job that is scheduled, or retried, is there at once."""
    assert await jobs.run(fail_twice) == 2
    assert await jobs.run(add.options(countdown=86_400), 3, 4) == 7


@pytest.mark.parametrize(("task", "value"), [(wait_for_another, 2), (wait_as_celery_does, 4)])
async def test_a_job_that_waits_for_another_has_it_run(
    jobs: JobRunner, task: Any, value: int
) -> None:
    """Else it would wait for ever."""
    assert await jobs.run(task) == value


async def test_the_private_server_is_not_examined(jobs_redis_url: str, jobs_app: Quart) -> None:
    """It is the same one for each test, and what its answers mean is known."""
    with Redis.from_url(jobs_redis_url, decode_responses=True) as redis:
        redis.config_resetstat()
        async with run_jobs(jobs_app) as runner:
            assert await runner.run(add, 1, 2) == 3
        asked = {name for name in redis.info("commandstats") if "config" in name}
    assert asked == {"cmdstat_config|resetstat"}


async def test_a_canvas_runs(jobs: JobRunner) -> None:
    """All of it, by `run`."""
    async with jobs.app.app_context():
        line, many = chain(add.s(1, 2), add.s(3)), group(add.s(i, i) for i in range(3))
        assert await jobs.run(line) == 6
        assert await jobs.run(many) == [0, 2, 4]
        job: Any = await enqueue(chord([add.s(1, 2), add.s(3, 4)], note.s()))
        await jobs.drain()
        assert await job.result(timeout=20) is None
    assert log == [[3, 7]]


async def test_jobs_run_as_they_come_in_a_block(jobs: JobRunner) -> None:
    """For code that follows a job: here the page of one."""
    async with jobs.working():
        job = await note.enqueue("now")
        await job.result(timeout=20)
    assert log == ["now"]


async def test_a_job_that_hangs_is_named(jobs: JobRunner) -> None:
    """And is cancelled when the test ends."""
    jobs.timeout = 0.2
    with pytest.raises(TimeoutError, match=r"tested\.sleep"):
        await jobs.run(sleep)
