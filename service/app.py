"""The app factory, which reads as a list of the app's parts."""

import os
from collections.abc import Mapping
from typing import Any, Final

from quart import Quart

from service.broker.checks.startup import init_checks
from service.dashboard import init_dashboard
from service.parts import init_parts
from service.settings import celery_environment, read_settings
from service.web import init_web

_DEFAULTS: Final = {"TEST_FOR_APP_CONTEXT": "the app's configuration"}


def create_app(config: Mapping[str, Any] | None = None) -> Quart:
    """Make the app that both `asgi.py` and `worker_entry.py` use.

    `config` wins over the environment, and the environment over the defaults. A name that begins
    with SERVICE_ is one of this service's settings; any other is Quart's own configuration, which
    the environment gives as QUART_<name>. A variable that Celery itself reads, such as
    CELERY_BROKER_URL, wins over everything, as Celery has it. Raises ConfigurationError.
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
