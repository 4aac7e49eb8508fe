"""All that an app has, as one frozen object under one key of `app.extensions`."""

from dataclasses import dataclass
from typing import Any

from celery import Celery
from quart import Quart, current_app, has_app_context
from redis.asyncio import Redis

from service.errors import ConfigurationError, NoAppContextError, NoJobsError
from service.jobs.arguments import check_owner
from service.jobs.blueprint import TaskRegistry
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.builder import CeleryBuilder
from service.jobs.celery.current import SERVING, be_current
from service.jobs.handle import EXTENSION
from service.jobs.job import Job, JobGroup
from service.jobs.sending.enqueuer import Enqueuer
from service.redis.clients import broker_redis_url, connect
from service.redis.keys import ResultKeys, result_keys
from service.results.store import ResultStore
from service.results.watcher import Watcher
from service.settings import Settings
from service.signals import Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts. `broker_redis` is `redis`, unless the broker has a Redis of its own."""

    settings: Settings
    keys: ResultKeys
    redis: Redis
    broker_redis: Redis
    store: ResultStore
    watcher: Watcher
    signals: Signals
    tasks: TaskRegistry
    celery: CeleryBuilder
    enqueuer: Enqueuer


def init_parts(
    app: Quart,
    settings: Settings,
    tasks: TaskRegistry,
    existing: Celery | None = None,
) -> None:
    """Give the app its parts; those with connections are closed when the app stops serving."""
    signals = Signals()
    celery = CeleryBuilder(app, settings, tasks, signals, existing)
    be_current()
    keys = result_keys(settings)
    redis = broker_redis = connect(settings)
    app.after_serving(redis.aclose)
    if broker_redis_url(settings) != settings.redis_url:
        broker_redis = connect(settings, broker_redis_url(settings))
        app.after_serving(broker_redis.aclose)
    watcher = Watcher(redis, settings, keys)
    app.before_serving(watcher.begin)
    app.after_serving(watcher.aclose)
    store = ResultStore(redis, keys, timeout=settings.redis_timeout)
    enqueuer = Enqueuer(celery, store, watcher, redis, broker_redis)
    app.before_serving(enqueuer.prepare)
    app.after_serving(enqueuer.aclose)
    parts = app.extensions[EXTENSION] = Parts(
        settings=settings,
        keys=keys,
        redis=redis,
        broker_redis=broker_redis,
        store=store,
        watcher=watcher,
        signals=signals,
        tasks=tasks,
        celery=celery,
        enqueuer=enqueuer,
    )

    @app.before_serving
    async def begin() -> None:
        SERVING.append(celery)
        be_current()  # the factory may have run in another thread
        for handle in tasks.values():
            handle.serving.append(parts)

    @app.after_serving
    async def end() -> None:
        if celery not in SERVING:  # the app was refused before it began
            return
        SERVING.remove(celery)
        for handle in tasks.values():
            handle.serving.remove(parts)


def parts_of(app: Quart) -> Parts:
    """The app's parts. Raises NoJobsError."""
    parts: Parts | None = app.extensions.get(EXTENSION)
    if parts is None:
        raise NoJobsError(app.name)
    return parts


def get_celery(app: Quart) -> QuartCelery:
    """The app's Celery app: built at the first call, the same one from then on.

    Raises ConfigurationError for settings of Celery and options of tasks that cannot be used, and
    for an app of another kind.
    """
    if not isinstance(app, Quart):
        kind = type(app).__name__
        raise ConfigurationError(
            f"`get_celery` takes a Quart app, and not a {kind}. Write `get_celery(jobs.app)`."
        )
    return parts_of(app).celery.get()


def runs_jobs(app: Quart) -> bool:
    """Whether this process runs the app's jobs: it is a worker, or a child of one, that starts."""
    celery = parts_of(app).celery.built
    return celery is not None and celery.process_loop is not None


async def enqueue(signature: Any, *, owner: str | None = None) -> Job[Any] | JobGroup:
    """Hand a signature, chain, group or chord to the current app's broker, without blocking.

    All of its jobs are the `owner`'s, if one is given. Where no app is current it is that of the
    signature. Returns a JobGroup for a group, and for the rest the job that ends it. Raises
    BrokerUnavailableError, InvalidArgumentsError where an argument cannot be JSON, ValueError for
    what can be no owner, NoAppContextError and NoJobsError.
    """
    if owner is not None:
        check_owner(owner)
    app = getattr(getattr(signature, "app", None), "quart_app", None)
    if has_app_context():
        app = current_app
    elif app is None:
        raise NoAppContextError(str(signature))
    return await parts_of(app).enqueuer.send(signature, owner)
