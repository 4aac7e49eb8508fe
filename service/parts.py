"""All that an app has, as one frozen object under one key of `app.extensions`."""

from dataclasses import dataclass
from typing import Any

from quart import Quart, current_app
from redis.asyncio import Redis

from service.jobs.blueprint import TaskRegistry, find_tasks
from service.jobs.celery.app import CeleryBuilder, QuartCelery
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


def init_parts(app: Quart, settings: Settings) -> None:
    """Give the app its parts; those with connections are closed when the app stops serving."""
    keys = result_keys(settings)
    redis = broker_redis = connect(settings)
    app.after_serving(redis.aclose)
    if broker_redis_url(settings) != settings.redis_url:
        broker_redis = connect(settings, broker_redis_url(settings))
        app.after_serving(broker_redis.aclose)
    watcher = Watcher(redis, settings, keys)
    app.after_serving(watcher.aclose)
    tasks = find_tasks(package="service.tasks", modules=settings.task_modules)
    signals = Signals()
    celery = CeleryBuilder(app, settings, tasks, signals)
    enqueuer = Enqueuer(celery, watcher, redis, keys)
    app.before_serving(enqueuer.prepare)
    app.after_serving(enqueuer.aclose)
    app.extensions[EXTENSION] = Parts(
        settings=settings,
        keys=keys,
        redis=redis,
        broker_redis=broker_redis,
        store=ResultStore(redis, keys, timeout=settings.redis_timeout),
        watcher=watcher,
        signals=signals,
        tasks=tasks,
        celery=celery,
        enqueuer=enqueuer,
    )


def parts_of(app: Quart) -> Parts:
    """The app's parts."""
    parts: Parts = app.extensions[EXTENSION]
    return parts


def get_celery(app: Quart) -> QuartCelery:
    """The app's Celery app: built at the first call, the same one from then on.

    Raises ConfigurationError for settings of Celery and options of tasks that cannot be used.
    """
    return parts_of(app).celery.get()


async def enqueue(signature: Any) -> Job[Any] | JobGroup:
    """Hand a signature, chain, group or chord to the current app's broker, without blocking.

    Returns a JobGroup for a group, and for the rest the job that ends it. Raises
    BrokerUnavailableError, and InvalidArgumentsError where an argument cannot be JSON.
    """
    return await parts_of(current_app).enqueuer.send(signature)
