"""Builds the Celery app of a Quart app, once, when it is first used."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, Final, Protocol

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.utils import symbol_by_name
from kombu.utils.uuid import uuid
from quart import Quart

from service.jobs.celery.capture import current_outbox
from service.jobs.celery.settings import TRANSPORTS, celery_settings
from service.jobs.celery.task_options import check_options
from service.jobs.registry import TaskRegistry
from service.results.record import now
from service.settings import Settings
from service.signals import send_queued

# By dotted path: these rooms are above this one.
_TASK_BASE: Final = "service.worker.task.base:ContextTask"
_LIFESPAN: Final = "service.worker.loop.lifespan:LifespanStep"
_REPORTER: Final = "service.worker.reporter:ReporterStep"


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
        for scheme, path in TRANSPORTS.items():
            if uri.startswith(f"{path}:"):
                return scheme + uri.removeprefix(path)
        return uri


class _AMQP(AMQP):
    Connection = _Connection


class QuartCelery(Celery):
    """A Celery app that belongs to one Quart app."""

    amqp_cls = f"{__name__}:_AMQP"

    def __init__(self, quart_app: Quart, handles: TaskRegistry, **options: Any) -> None:
        super().__init__(
            quart_app.name,
            # Whoever runs a worker makes it current; in a web process two apps must not mix.
            set_as_current=False,
            task_cls=_TASK_BASE,
            **options,
        )
        self.quart_app = quart_app
        self.handles = handles
        self._off_loop: OffLoop | None = None
        self.steps["worker"].update((_LIFESPAN, _REPORTER))

    def task_named(self, name: str) -> Any:
        """The task object of this name; made now if its blueprint was registered only lately."""
        if name not in self.tasks:
            handle = self.handles[name]
            # shared=False: a shared task is put into every other Celery app of the process too.
            options: dict[str, Any] = {**handle.celery_options, "shared": False, "lazy": False}
            check_options(handle, options.get("base") or self.Task)
            self.task(name=name, **options)(handle.function)  # type: ignore[no-untyped-call]  # by its options
        return self.tasks[name]

    def register_task(self, task: Any, **options: Any) -> Any:
        """Celery's own, for tasks that are classes, which then run their bodies as others do."""
        if isinstance(task, type):
            task = self._context_task(task)
        elif not isinstance(task, self._task_base):
            task.__class__ = self._context_task(type(task))
        return super().register_task(task, **options)

    def _task_from_fun(  # type: ignore[override]  # celery-types: each option by name
        self, fun: Callable[..., Any], name: str | None = None, base: Any = None, **options: Any
    ) -> Any:
        """Celery's own, which all its ways of making a task of a function end in."""
        base = self._context_task(base or self.Task)
        return super()._task_from_fun(fun, name, base, **options)

    def _context_task(self, task_class: type) -> type:
        """The class, with our Task base behind it if it is based on Celery's alone."""
        if issubclass(task_class, self._task_base):
            return task_class
        if issubclass(self._task_base, task_class):  # Celery's own Task
            return self.Task
        names = {"__module__": task_class.__module__, "__doc__": task_class.__doc__}
        return type(task_class.__name__, (task_class, self._task_base), names)

    @cached_property
    def _task_base(self) -> type:
        base: type = symbol_by_name(_TASK_BASE)
        return base

    def uses_utc_timezone(self) -> bool:
        """Celery's own, which takes a lock for each message that a worker gets."""
        return self._uses_utc

    @cached_property
    def _uses_utc(self) -> bool:
        return super().uses_utc_timezone()

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
        `async def` task and its child tasks it is done in a thread, while the event loop goes on.
        """

        def send() -> Any:
            return self._send(name, args, kwargs, *positional, **options)

        return send() if current_outbox() is not None else self.off_loop(send)

    def _send(self, name: str, args: Any, kwargs: Any, *positional: Any, **options: Any) -> Any:
        options["task_id"] = options.get("task_id") or uuid()
        queued_at = now()
        options["headers"] = {"queued_at": queued_at, **(options.get("headers") or {})}
        if current_outbox() is not None:
            return super().send_task(name, args, kwargs, *positional, **options)
        if not options.get("ignore_result"):
            store_queued = getattr(self.backend, "store_queued", None)
            if store_queued is not None:  # the backend may be another one, by setting
                store_queued(options["task_id"], name, queued_at)
        sent = super().send_task(name, args, kwargs, *positional, **options)
        send_queued(self.quart_app, options["task_id"], name)
        return sent


class CeleryBuilder:
    """Builds an app's Celery app at the first call, and has the same one from then on."""

    def __init__(self, app: Quart, settings: Settings, tasks: TaskRegistry) -> None:
        self._app = app
        self._settings = settings
        self._tasks = tasks
        self._building = threading.Lock()
        self._built: QuartCelery | None = None

    @property
    def is_built(self) -> bool:
        """Whether the Celery app is there already."""
        return self._built is not None

    def get(self) -> QuartCelery:
        """The app's Celery app.

        Raises ConfigurationError for settings of Celery and options of tasks that cannot be used.
        """
        with self._building:
            if self._built is None:
                celery = QuartCelery(self._app, self._tasks)
                celery.conf.update(celery_settings(self._settings))
                for name in self._tasks:
                    celery.task_named(name)
                self._tasks.close()
                self._built = celery
            return self._built
