"""The app factory, which reads as a list of the app's parts."""

import os
from collections.abc import Mapping
from typing import Any, Final

from quart import Quart

from service.broker.checks.startup import init_checks
from service.dashboard import init_dashboard
from service.jobs.celery.app import CeleryBuilder
from service.jobs.discovery import find_tasks
from service.jobs.sending.enqueuer import Enqueuer
from service.parts import Parts, set_parts
from service.redis.clients import broker_redis_url, connect
from service.redis.keys import result_keys
from service.results.store import ResultStore
from service.results.watcher import Watcher
from service.settings import Settings, celery_environment, read_settings
from service.web import init_web

_DEFAULTS: Final = {"TEST_FOR_APP_CONTEXT": "the app's configuration"}


def create_app(config: Mapping[str, Any] | None = None) -> Quart:
    """Make the app that both `asgi.py` and `worker_entry.py` use.

    `config` goes over the environment, and that over the defaults. A name that begins with
    SERVICE_ is one of this service's settings; any other is Quart's own configuration, which
    the environment gives as QUART_<name>. What Celery itself reads in the environment, such as
    CELERY_BROKER_URL, wins over all, as Celery has it. Raises ConfigurationError.
    """
    app = Quart("service", template_folder="web/templates", static_folder="web/static")
    app.config.from_mapping(_DEFAULTS)
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    settings = read_settings(os.environ, config or {}, celery_environment(os.environ))
    init_checks(app, settings)
    init_parts(app, settings)
    init_web(app)
    init_dashboard(app)
    return app


def init_parts(app: Quart, settings: Settings) -> None:
    """Build all that the app has; what holds connections is closed when the app stops serving."""
    keys = result_keys(settings)
    redis = broker_redis = connect(settings)
    app.after_serving(redis.aclose)
    if broker_redis_url(settings) != settings.redis_url:
        broker_redis = connect(settings, broker_redis_url(settings))
        app.after_serving(broker_redis.aclose)
    watcher = Watcher(redis, settings, keys)
    app.after_serving(watcher.aclose)
    tasks = find_tasks(package="service.tasks", modules=settings.task_modules)
    celery = CeleryBuilder(app, settings, tasks)
    enqueuer = Enqueuer(
        app,
        settings=settings,
        client=redis,
        watcher=watcher,
        tasks=tasks,
        celery=celery,
        keys=keys,
    )
    app.before_serving(enqueuer.prepare)
    app.after_serving(enqueuer.aclose)
    set_parts(
        app,
        Parts(
            settings=settings,
            keys=keys,
            redis=redis,
            broker_redis=broker_redis,
            store=ResultStore(redis, keys, timeout=settings.redis_timeout),
            watcher=watcher,
            tasks=tasks,
            celery=celery,
            enqueuer=enqueuer,
        ),
    )
