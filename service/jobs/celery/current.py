"""Makes Celery's current app, which shared tasks go to, that of the current Quart app.

Celery keeps it for each thread, and in an event loop's thread there may be several apps.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any, Final

from celery import Celery, _state
from celery.local import Proxy
from quart import current_app, has_app_context

from service.errors import NoAppContextError
from service.jobs.handle import EXTENSION

# The CeleryBuilder of each app that serves in this process.
SERVING: Final[list[Any]] = []


class _CurrentApp(Proxy):  # type: ignore[type-arg]  # celery-types: generic, Celery: not
    """Stands for the Celery app of the current Quart app, or for another where there is none."""


class _NoApp(Celery):
    """Where there is no other: makes signatures, and sends where there is an app by then."""

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        builder = _builder_here(or_serving=True)
        if builder is None:
            raise NoAppContextError(name, apps=len(SERVING))
        return builder.get().send_task(name, *args, **options)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        return nullcontext(producer)


def be_current() -> None:
    """Be the process's default app, and the current one in this thread if another one was so.

    Outside of our apps those go on to be it.
    """
    default: Any = _default()
    if type(default) is not _CurrentApp:
        if default is None or _is_celerys(default):
            default = _NoApp("default", fixups=[], set_as_current=False)  # for Celery's own
        Celery.set_default(_standing_for(default))
    current: Any = _state.get_current_app()
    if _is_celerys(current):
        Celery.set_current(_default())
    elif type(current) is not _CurrentApp and not hasattr(current, "quart_app"):  # as a worker's is
        Celery.set_current(_standing_for(current))


def _default() -> Any:
    return getattr(_state, "default_app")  # noqa: B009  not in celery-types


def _is_celerys(app: Any) -> bool:
    """Whether it is the one that Celery makes where nobody has made one."""
    return type(app) is Celery and app.main == "default"


def leave_current(existing: Celery) -> None:
    """Have this app, if it is current in this thread, be so outside of our apps alone."""
    if _state.get_current_app() is existing:
        Celery.set_current(_standing_for(existing))


def _standing_for(otherwise: Celery) -> Any:
    return _CurrentApp(partial(_app_here, otherwise))


def _app_here(otherwise: Celery) -> Any:
    builder = _builder_here(or_serving=isinstance(otherwise, _NoApp))
    return otherwise if builder is None else builder.get()


def _builder_here(*, or_serving: bool) -> Any:
    """The CeleryBuilder of the current app, or else of the only one that serves."""
    if has_app_context():
        parts = current_app.extensions.get(EXTENSION)
        return None if parts is None else parts.celery
    return SERVING[0] if or_serving and len(SERVING) == 1 else None
