"""Chooses a worker's pool, and how many jobs run at once, where the command line does not."""

from typing import Any, Final

import click
from celery import signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from click.core import ParameterSource

from service.worker.pool.pool import AsyncioPool

ASYNCIO_CONCURRENCY: Final = 100


@signals.celeryd_init.connect
def _default_concurrency(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Give our pool its own default. Celery's, the number of processors, suits processes."""
    if not hasattr(instance.app, "quart_app"):
        return
    pool = PreforkPool if _prefork_was_asked_for() else options.get("pool") or conf.worker_pool
    is_asyncio = pool is AsyncioPool or pool == f"{AsyncioPool.__module__}:{AsyncioPool.__name__}"
    if is_asyncio and not conf.worker_concurrency:
        conf.worker_concurrency = ASYNCIO_CONCURRENCY


@signals.worker_init.connect
def _heed_prefork(sender: Any, **_: Any) -> None:
    """Have `-P prefork` give prefork.

    To Celery's command line it is the default, which any configured pool replaces.
    """
    if (
        hasattr(sender.app, "quart_app")
        and sender.pool_cls is AsyncioPool
        and _prefork_was_asked_for()
    ):
        sender.pool_cls = PreforkPool


def _prefork_was_asked_for() -> bool:
    """Whether `-P` was given, and Celery replaced it by the configured pool."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("pool") in {None, ParameterSource.DEFAULT}:
        return False
    return context.params.get("pool") is AsyncioPool
