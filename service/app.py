"""The app factory, which reads as a list of the app's parts."""

import os
from collections.abc import Mapping
from typing import Any, Final

from quart import Quart

from service.broker.checks.startup import init_checks
from service.dashboard import init_dashboard
from service.jobs.discovery import register_tasks
from service.jobs.sending.enqueuer import init_jobs
from service.redis.connection import init_redis
from service.results.store import ResultStore, init_results, key_prefix
from service.results.watcher import Watcher, init_watcher
from service.settings import celery_environment, init_settings, read_settings
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
    init_settings(app, settings)
    register_tasks(app, package="service.tasks", modules=settings.task_modules)
    init_checks(app)
    client = init_redis(app)
    prefix = key_prefix(settings)
    init_results(app, ResultStore(client, timeout=settings.redis_timeout, key_prefix=prefix))
    init_watcher(app, Watcher(client, settings, key_prefix=prefix))
    init_jobs(app, client)
    init_dashboard(app)
    init_web(app)
    return app
