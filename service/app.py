"""The app factory: a Quart app with jobs, and with nothing else."""

from collections.abc import Mapping
from typing import Any, Final

from quart import Quart

from service.access.access import Identify
from service.access.policy import Allow
from service.extension import Jobs

_DEFAULTS: Final = {"TEST_FOR_APP_CONTEXT": "the app's configuration"}


def create_app(
    config: Mapping[str, Any] | None = None,
    *,
    identify: Identify | None = None,
    allow: Allow | None = None,
) -> Quart:
    """Make the app that both `asgi.py` and `worker_entry.py` use.

    `config` wins over the environment, and the environment over the defaults. A name that begins
    with SERVICE_ is one of this service's settings; any other is Quart's own configuration, which
    the environment gives as QUART_<name>. A variable that Celery itself reads, such as
    CELERY_BROKER_URL, wins over everything, as Celery has it. `identify` and `allow` are those of
    `Jobs`. Raises ConfigurationError.
    """
    app = Quart("service", static_folder=None)
    app.config.from_mapping(_DEFAULTS)
    app.config.from_prefixed_env()
    # Not by `from_mapping`, which drops names in lower case, as Celery's settings are written.
    app.config.update(config or {})
    jobs = Jobs(
        url_prefix="",
        greeting="Hello, world!",
        first_job=("demo.my_add", (1, 2)),
        identify=identify,
        allow=allow,
        whole_app=True,
    )
    jobs.init_app(app, tasks=["service.tasks"])
    return app
