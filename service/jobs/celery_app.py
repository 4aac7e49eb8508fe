"""Builds the Celery app of a Quart app, once, when it is first used."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from celery import Celery
from celery.app.amqp import AMQP
from celery.app.defaults import SETTING_KEYS
from kombu import Connection
from kombu.utils.uuid import uuid
from quart import Quart

from service.errors import ConfigurationError
from service.jobs.blueprint import CELERY, get_tasks
from service.jobs.outbox import current_outbox
from service.monitor.note import note_queued
from service.monitor.recorder import get_recorder
from service.results.clients import is_sentinel, sentinel_options
from service.settings import Settings, get_settings

_BUILDING: Final = threading.Lock()

# By dotted path: these rooms are above this one.
_TASK_BASE: Final = "service.worker.task_base:ContextTask"
_BACKEND: Final = "service.worker.backend:Backend"
_SENTINEL_BACKEND: Final = "service.worker.backend:SentinelBackend"
_LIFESPAN: Final = "service.worker.lifespan:LifespanStep"
_REPORTER: Final = "service.worker.reporter:ReporterStep"
_POOL: Final = "service.worker.pool:AsyncioPool"
_TRANSPORTS: Final = {
    "redis": "service.broker.transport:Transport",
    "rediss": "service.broker.transport:SecureTransport",
    "sentinel": "service.broker.transport:SentinelTransport",
}

# Given by the user, these are taken together with what we set.
_MERGED: Final = ("broker_transport_options", "result_backend_transport_options")

_ONLY_JSON: Final[dict[str, Any]] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
}


class OffLoop(Protocol):
    """How a worker makes blocking calls for code that runs on its event loop."""

    def is_needed(self) -> bool:
        """Whether the calling code is such, and can wait for a thread."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Make the call in a thread, and wait for it without blocking the loop."""


class _Connection(Connection):
    """A connection that calls its broker what its users call it.

    Kombu names it by the transport's dotted path, which Flower, for one, does not know.
    """

    def as_uri(self, *args: Any, **options: Any) -> str:
        """The broker's address."""
        uri = str(super().as_uri(*args, **options))
        for scheme, path in _TRANSPORTS.items():
            if uri.startswith(f"{path}:"):
                return scheme + uri.removeprefix(path)
        return uri


class _AMQP(AMQP):
    Connection = _Connection


class QuartCelery(Celery):
    """A Celery app that belongs to one Quart app."""

    amqp_cls = f"{__name__}:_AMQP"

    def __init__(self, quart_app: Quart, **options: Any) -> None:
        super().__init__(
            quart_app.name,
            # Whoever runs a worker makes it current; in a web process two apps must not mix.
            set_as_current=False,
            task_cls=_TASK_BASE,
            **options,
        )
        self.quart_app = quart_app
        self._off_loop: OffLoop | None = None
        self.steps["worker"].update((_LIFESPAN, _REPORTER))

    def task_named(self, name: str) -> Any:
        """The task object of this name; made now if its blueprint was registered only lately."""
        if name not in self.tasks:
            handle = get_tasks(self.quart_app)[name]
            # shared=False: a shared task is put into every other Celery app of the process too.
            options: dict[str, Any] = {**handle.celery_options, "shared": False, "lazy": False}
            self.task(name=name, **options)(handle.function)  # type: ignore[no-untyped-call]  # by its options
        return self.tasks[name]

    def use_off_loop(self, off_loop: OffLoop) -> None:
        """Have blocking calls made this way from now on, where that is needed."""
        self._off_loop = off_loop

    def off_loop(self, function: Callable[[], Any]) -> Any:
        """Make a call that blocks: where the caller is, unless that is on the event loop."""
        if self._off_loop is not None and self._off_loop.is_needed():
            return self._off_loop.call(function)
        return function()

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Celery's own, or where the Enqueuer has Celery build messages, what collects them.

        Nothing on the event loop may hold one of the few producers. Celery's groups take one for
        all their tasks; there each task takes its own, in a thread.
        """
        outbox = current_outbox() if producer is None else None
        if outbox is not None:
            return nullcontext(outbox)
        if producer is None and self._off_loop is not None and self._off_loop.is_needed():
            return nullcontext(None)
        return super().producer_or_acquire(producer)

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, *positional: Any, **options: Any
    ) -> Any:
        """Celery's `send_task`, which `delay` and the rest end in, with a QUEUED record first.

        So a job that was sent by Celery's own means is known from the same moment on. Inside an
        `async def` task it is done in a thread, while the event loop goes on. A child asyncio task
        of a body can't be made to wait like that: there use `await handle.enqueue()`.
        """

        def send() -> Any:
            return self._send(name, args, kwargs, *positional, **options)

        return send() if current_outbox() is not None else self.off_loop(send)

    def _send(self, name: str, args: Any, kwargs: Any, *positional: Any, **options: Any) -> Any:
        options["task_id"] = options.get("task_id") or uuid()
        queued_at = datetime.now(UTC).isoformat()
        options["headers"] = {"queued_at": queued_at, **(options.get("headers") or {})}
        if current_outbox() is not None:
            return super().send_task(name, args, kwargs, *positional, **options)
        if not options.get("ignore_result"):
            store_queued = getattr(self.backend, "store_queued", None)
            if store_queued is not None:  # the backend may be another one, by setting
                store_queued(options["task_id"], name, queued_at)
        sent = super().send_task(name, args, kwargs, *positional, **options)
        note_queued(get_recorder(self.quart_app), options["task_id"], name)
        return sent


def get_celery(app: Quart) -> QuartCelery:
    """The app's Celery app: built at the first call, the same one from then on.

    Raises ConfigurationError for Celery settings that cannot be used.
    """
    with _BUILDING:
        if CELERY not in app.extensions:
            app.extensions[CELERY] = _build(app)
        celery: QuartCelery = app.extensions[CELERY]
        return celery


def _build(app: Quart) -> QuartCelery:
    celery = QuartCelery(app)
    celery.conf.update(celery_settings(get_settings(app)))
    for name in get_tasks(app):
        celery.task_named(name)
    return celery


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for these settings; those given as SERVICE_CELERY__* win.

    Raises ConfigurationError for a name that Celery does not know and for another serializer.
    """
    given = settings.celery
    problems = [
        f"SERVICE_CELERY__{name} is not a setting of Celery."
        for name in given
        if name not in SETTING_KEYS
    ] + [
        f"SERVICE_CELERY__{name}={given[name]!r} cannot be used: messages and results are JSON"
        " only, so that nobody who can write to Redis can run code here."
        for name, value in _ONLY_JSON.items()
        if name in given and given[name] != value
    ]
    if given.get("task_always_eager"):
        problems.append(
            "SERVICE_CELERY__TASK_ALWAYS_EAGER cannot be used: a job would run, and block, where it"
            " is enqueued. Call the task itself, which is a plain function."
        )
    if "result_backend" in given:
        problems.append(
            "SERVICE_CELERY__RESULT_BACKEND cannot be used: results are in the Redis of"
            " SERVICE_REDIS_URL, where /result/<id> reads them."
        )
    if problems:
        raise ConfigurationError(problems)
    return {
        "broker_url": settings.redis_url,
        **_transport(settings),
        "broker_connection_timeout": settings.redis_timeout,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": _result_backend(settings.redis_url),
        "result_backend_transport_options": _backend_options(settings),
        "result_expires": settings.result_expires,
        "result_backend_always_retry": True,
        # One backend for all threads of a process; else each builds its own, with connections.
        "result_backend_thread_safe": True,
        "redis_socket_timeout": 5.0,
        "redis_socket_connect_timeout": settings.redis_timeout,
        "worker_pool": _POOL,
        "task_track_started": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        **_ONLY_JSON,
        **{name: value for name, value in given.items() if name not in _MERGED},
    }


def _transport(settings: Settings) -> dict[str, Any]:
    """The transport that loses nothing, where the broker is a Redis; else Celery's own."""
    given = settings.celery
    options = {**sentinel_options(given), **given.get("broker_transport_options", {})}
    scheme = str(given.get("broker_url", settings.redis_url)).partition(":")[0]
    if not settings.lease or scheme not in _TRANSPORTS or "broker_transport" in given:
        return {
            "broker_transport_options": options,
            # Kombu puts back what still runs: to start anew is better than to run twice at once.
            "worker_cancel_long_running_tasks_on_connection_loss": True,
        }
    return {
        "broker_transport": _TRANSPORTS[scheme],
        "broker_transport_options": {
            "lease": settings.lease,
            "max_deliveries": settings.max_deliveries,
            **options,
        },
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _result_backend(redis_url: str) -> str:
    backend = _SENTINEL_BACKEND if is_sentinel(redis_url) else _BACKEND
    if redis_url.startswith("rediss:") and "ssl_cert_reqs=" not in redis_url:
        # What redis-py does by default; Celery wants to be told.
        redis_url += ("&" if "?" in redis_url else "?") + "ssl_cert_reqs=required"
    return f"{backend}+{redis_url}"


def _backend_options(settings: Settings) -> dict[str, Any]:
    given = settings.celery.get("result_backend_transport_options") or {}
    return {**sentinel_options(settings.celery), **given}
