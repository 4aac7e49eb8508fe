"""All that an app has, as one frozen object under one key of `app.extensions`."""

from dataclasses import dataclass
from typing import Any

from quart import Quart, current_app
from redis.asyncio import Redis

from service.jobs.celery.app import CeleryBuilder, QuartCelery
from service.jobs.handle import EXTENSION
from service.jobs.job import Job, JobGroup
from service.jobs.registry import TaskRegistry
from service.jobs.sending.enqueuer import Enqueuer
from service.redis.keys import ResultKeys
from service.results.store import ResultStore
from service.results.watcher import Watcher
from service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an app has. `broker_redis` is `redis`, unless the broker has a Redis of its own."""

    settings: Settings
    keys: ResultKeys
    redis: Redis
    broker_redis: Redis
    store: ResultStore
    watcher: Watcher
    tasks: TaskRegistry
    celery: CeleryBuilder
    enqueuer: Enqueuer


def set_parts(app: Quart, parts: Parts) -> None:
    """Give the app its parts."""
    app.extensions[EXTENSION] = parts


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

    A group gives a JobGroup; the rest gives the job that ends it. Raises BrokerUnavailableError,
    and InvalidArgumentsError where no JSON can be made of an argument.
    """
    return await parts_of(current_app).enqueuer.send(signature)
