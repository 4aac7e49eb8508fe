"""A Celery code base in an app of ours: whose app its tasks are sent by."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chain, group, shared_task
from quart import Quart, current_app

from service import Jobs, enqueue, get_celery
from service.errors import ConfigurationError, NoAppContextError
from service.jobs.celery.current import SERVING
from service.parts import parts_of
from service.testing import run_jobs
from tests.support.valkey import Valkey

pytestmark = pytest.mark.quick


@pytest.fixture
def valkey(own_valkey: Valkey) -> Valkey:
    """A server of the test's own: the session's worker would take what is counted here."""
    return own_valkey


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """Its address."""
    return valkey.url


@shared_task(name="existing.shared")
def shared(number: int) -> int:
    return number


def _body(number: int) -> None: ...


def _ran() -> str:
    return "ran"


def app_of(name: str, redis_url: str, **options: Any) -> Quart:
    app = Quart(name)
    app.config["SERVICE_REDIS_URL"] = redis_url
    Jobs(**options).init_app(app)
    return app


def queued(valkey: Valkey, database: int, queue: str = "celery") -> int:
    with valkey.client() as redis:
        redis.select(database)
        return int(redis.llen(queue))


SENDERS: list[Callable[[Any], Any]] = [
    lambda task: task.delay(1),
    lambda task: task.apply_async((1,)),
    lambda task: chain(task.s(1), task.s()).delay(),
    lambda task: group(task.s(1)).delay(),
]


async def test_shared_tasks_of_two_apps_do_not_mix(redis_url: str, valkey: Valkey) -> None:
    """The app whose context it is sends, though Celery's current app is one for the thread."""
    one = app_of("one", f"{redis_url[:-1]}0")
    two = app_of("two", f"{redis_url[:-1]}1")
    async with one.test_app(), two.test_app():
        for number, send in enumerate(SENDERS, 1):
            async with one.app_context():
                send(shared)
                assert queued(valkey, 0) == number
            async with two.app_context():
                assert queued(valkey, 1) == number - 1
                send(shared)
                assert queued(valkey, 1) == number
        made_in_none = chain(shared.s(1), shared.s())
        for database, app in enumerate((one, two)):
            async with app.app_context():
                for signature in (shared.s(1), group(shared.s(1)), made_in_none):
                    before = queued(valkey, database)
                    job: Any = await enqueue(signature)
                    assert queued(valkey, database) == before + 1
                    (found,) = getattr(job, "jobs", [job])
                    assert (await parts_of(app).store.read(found.id)).result.state == "QUEUED"
        with pytest.raises(NoAppContextError, match="served by 2 apps"):
            # A thread, as a test may have made a Celery app the current one in this.
            await asyncio.to_thread(lambda: shared.delay(1))
    assert SERVING == []


async def test_the_only_app_that_serves_needs_no_context(redis_url: str, valkey: Valkey) -> None:
    """As in a handler of FastAPI, which mounts it."""
    async with app_of("one", redis_url).test_app():
        await asyncio.to_thread(lambda: shared.delay(1))
        assert queued(valkey, 0) == 1
        signature = await asyncio.to_thread(lambda: shared.s(1))
        await enqueue(signature)
        assert queued(valkey, 0) == 2


async def test_the_app_that_celery_makes_for_itself_is_no_other_app(
    redis_url: str, valkey: Valkey
) -> None:
    """The fixtures of Celery's own pytest plugin leave it as the current one."""
    Celery("default", set_as_current=False).set_current()
    one, two = app_of("one", redis_url), app_of("two", redis_url)
    async with one.test_app(), two.test_app():
        signature = shared.s(1)
        async with two.app_context():
            await enqueue(signature)
        assert queued(valkey, 0) == 1
        with pytest.raises(NoAppContextError, match="served by 2 apps"):
            shared.delay(1)


class Base(Celery):
    """One of the user's, who names tasks otherwise."""

    def gen_task_name(self, name: str, module: str) -> str:
        return f"own.{name}"


async def test_a_celery_app_becomes_that_of_the_app(jobs_redis_url: str) -> None:
    """Also its tasks that were made before; each keeps what it says itself, and runs here."""
    existing = Base("own", broker="redis://nowhere.invalid/0", backend="redis://nowhere.invalid/0")
    existing.conf.task_annotations = {"own.early": {"rate_limit": "5/s"}}

    @existing.task(acks_late=False, shared=False)
    def early(number: int) -> str:
        return current_app.name * number

    @existing.task(shared=False)  # else every later app of the tests would have it
    def late(number: int) -> None: ...

    assert early.track_started is False  # makes it a plain task of Celery's
    app = app_of("host", jobs_redis_url, celery=existing)
    assert get_celery(app).main == existing.main
    async with run_jobs(app) as jobs:
        for task in (early, late, shared):
            task.delay(1)
        existing.send_task("own.late", [1])
        async with app.app_context():
            job: Any = await enqueue(early.s(2))
        names = ["own.early", "own.late", "existing.shared", "own.late", "own.early"]
        assert [each.task for each in jobs.enqueued()] == names
        await jobs.drain()
        assert await job.result() == "hosthost"
    assert (early.acks_late, late.acks_late, early.track_started) == (False, True, True)
    assert early.rate_limit == "5/s"


async def test_a_celery_app_is_of_one_app_at_a_time(redis_url: str, valkey: Valkey) -> None:
    """A factory may be called again, as tests do, but two apps that serve do not share it."""
    existing = Celery("own", include=["tests.integration.test_existing_celery"])
    one = app_of("one", f"{redis_url[:-1]}0", celery=existing)
    two = app_of("two", f"{redis_url[:-1]}1", celery=existing)
    task: Any = existing.task(name="own.task", shared=False)(_body)
    async with one.test_app():
        task.delay(1)
        assert (queued(valkey, 0), queued(valkey, 1)) == (1, 0)
        with pytest.raises(
            ConfigurationError, match=r"'own' is that of the app 'one', which serve"
        ):
            get_celery(two)
        with pytest.raises(ConfigurationError, match="so that 'three' cannot have it, too"):
            app_of("three", redis_url, celery=existing)
    async with two.test_app():
        task.delay(1)
        async with two.app_context():
            shared.delay(1)
    assert (queued(valkey, 0), queued(valkey, 1)) == (1, 2)


async def test_its_settings_are_defaults_of_ours(redis_url: str) -> None:
    """What the environment, `app.config` or `Jobs` say wins, and what was set is not lost."""
    existing = Celery("own", broker="amqp://rabbit//", backend="redis://results:1/2")
    existing.conf.update(result_expires=60, task_acks_late=False, task_default_queue="theirs")
    existing.conf.accept_content = ["application/json"]
    app = Quart("host")
    Jobs(celery=existing, config={"SERVICE_CELERY__TASK_DEFAULT_QUEUE": "ours"}).init_app(app)
    settings, conf = parts_of(app).settings, existing.conf
    assert (settings.redis_url, settings.result_expires) == ("redis://results:1/2", 60)
    assert (conf.broker_url, conf.task_acks_late) == ("amqp://rabbit//", False)
    assert (conf.task_default_queue, conf.accept_content) == ("ours", ["json"])
    assert conf.task_track_started is True

    existing = Celery("own", broker="redis://theirs/1")
    assert parts_of(app_of("a", redis_url, celery=existing)).settings.redis_url == redis_url
    assert existing.conf.broker_url == redis_url
    existing = Celery("own", broker="redis://theirs/1")
    app = Quart("host")
    Jobs(celery=existing).init_app(app)
    assert parts_of(app).settings.redis_url == existing.conf.broker_url == "redis://theirs/1"


def test_what_cannot_be_taken_is_refused(redis_url: str) -> None:
    """In one sentence each."""
    pickled = Celery("own")
    pickled.conf.task_serializer = "pickle"
    with pytest.raises(ConfigurationError, match=r"TASK_SERIALIZER='pickle'.*JSON only"):
        app_of("host", redis_url, celery=pickled)
    ours = get_celery(app_of("host", redis_url))
    for wrong in (ours, "own"):
        with pytest.raises(ConfigurationError, match="takes a `Celery\\(\\)` of your own"):
            app_of("other", redis_url, celery=wrong)


async def test_one_that_was_refused_is_as_it_was(jobs_redis_url: str) -> None:
    """Whoever catches the refusal has a Celery app as before, and may mend it and give it again."""
    existing = Celery("own", broker="memory://")
    existing.conf.task_serializer = "pickle"
    task: Any = existing.task(name="own.task", shared=False)(_ran)
    with pytest.raises(ConfigurationError, match="JSON only"):
        app_of("host", jobs_redis_url, celery=existing)
    assert type(existing) is Celery
    task.delay()
    existing.conf.update(task_serializer="json", broker_url=jobs_redis_url)
    app = app_of("other", jobs_redis_url, celery=existing)
    async with run_jobs(app) as jobs:
        assert await jobs.run(task.s()) == "ran"


def test_a_module_of_shared_tasks_is_one_of_tasks(redis_url: str) -> None:
    """They need no blueprint; a module with neither is still a mistake."""
    app = app_of("host", redis_url, tasks=["tests.integration.test_existing_celery"])
    assert "existing.shared" in get_celery(app).tasks
    with pytest.raises(ConfigurationError, match="neither a TaskBlueprint nor a task of Celery's"):
        app_of("host", redis_url, tasks=["tests.support.ports"])
