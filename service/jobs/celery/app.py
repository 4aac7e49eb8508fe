"""Builds the Celery app of a Quart app, once, when it is first used."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, Final, Protocol

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.utils import symbol_by_name
from kombu.utils.uuid import uuid
from quart import Quart

from service.jobs.blueprint import TaskRegistry, check_options
from service.jobs.celery.capture import current_capture
from service.jobs.celery.settings import TRANSPORTS, celery_settings
from service.results.record import now
from service.settings import Settings
from service.signals import Signals

# By dotted path: these rooms are above this one.
_TASK_BASE: Final = "service.worker.task.base:ContextTask"
_LIFESPAN: Final = "service.worker.loop.lifespan:LifespanStep"
_REPORTER: Final = "service.worker.reporter:ReporterStep"


class OffLoop(Protocol):
    """How a worker makes blocking calls for code that runs on its event loop."""

    def is_needed(self) -> bool:
        """Whether the caller runs on the loop, and can wait for a thread."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Make the call in a thread, and wait for it without blocking the loop."""


class _Connection(Connection):
    """A connection whose address begins with the scheme that the user gave.

    Kombu puts the transport's dotted path there, which Flower, for one, does not know.
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

    def __init__(
        self, quart_app: Quart, handles: TaskRegistry, signals: Signals, **options: Any
    ) -> None:
        super().__init__(
            quart_app.name,
            # A worker makes its app current; in a web process two apps must not mix.
            set_as_current=False,
            task_cls=_TASK_BASE,
            **options,
        )
        self.quart_app = quart_app
        self.handles = handles
        self.signals = signals
        self.process_loop: OffLoop | None = None  # of a worker that runs jobs on one
        self.steps["worker"].update((_LIFESPAN, _REPORTER))

    def task_named(self, name: str) -> Any:
        """The task object of this name; made now if it is not there yet."""
        task = self.tasks.get(name)
        if task is None:
            handle = self.handles[name]
            # shared=False: a shared task is put into every other Celery app of the process too.
            options: dict[str, Any] = {**handle.celery_options, "shared": False, "lazy": False}
            check_options(handle, options.get("base") or self.Task)
            self.task(name=name, **options)(handle.function)  # type: ignore[no-untyped-call]  # by its options
            task = self.tasks[name]
        return task

    def shown_arguments(
        self, task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """What anyone who knows a job's id may see of its arguments; None for nothing.

        A task that was not declared on a TaskBlueprint shows nothing.
        """
        handle = self.handles.get(task.name) if getattr(task, "show_arguments", False) else None
        return None if handle is None else handle.arguments.shown(args, kwargs)

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
        """Celery's own, through which every function becomes a task."""
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

    _uses_utc = cached_property(Celery.uses_utc_timezone)

    def uses_utc_timezone(self) -> bool:
        """Celery's own, asked once: it takes a lock, and a worker asks for each message."""
        return self._uses_utc

    def off_loop(self, function: Callable[[], Any]) -> Any:
        """Make a blocking call: here, or in a thread where the caller runs on the event loop."""
        if self.process_loop is not None and self.process_loop.is_needed():
            return self.process_loop.call(function)
        return function()

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Celery's own, or the capture inside `capture_publishes`.

        Code on the event loop must not hold one of the few producers. A group of Celery's takes one
        for all its tasks; on the loop each of its tasks takes its own, in a thread.
        """
        capture = current_capture.get() if producer is None else None
        if capture is not None:
            return nullcontext(capture)
        if producer is None and self.process_loop is not None and self.process_loop.is_needed():
            return nullcontext(None)
        return super().producer_or_acquire(producer)

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, *positional: Any, **options: Any
    ) -> Any:
        """Celery's `send_task`, which `delay` and the rest end in, with a QUEUED record first.

        A job that is sent by Celery's own means is thus known from the same moment on. Inside an
        `async def` task and its child tasks a thread does it, and the event loop goes on.
        """
        job_id = options["task_id"] = options.get("task_id") or uuid()
        queued_at = now()
        options["headers"] = {"queued_at": queued_at, **(options.get("headers") or {})}
        send = partial(super().send_task, name, args, kwargs, *positional, **options)

        def record_and_send() -> Any:
            # The backend may be another one, by setting.
            store_queued = getattr(self.backend, "store_queued", None)
            if store_queued is not None and not options.get("ignore_result"):
                store_queued(job_id, name, queued_at)
            sent = send()
            self.signals.send_queued(job_id, name)
            return sent

        return send() if current_capture.get() is not None else self.off_loop(record_and_send)


class CeleryBuilder:
    """Builds an app's Celery app at the first call of `get`, and keeps it."""

    def __init__(
        self, app: Quart, settings: Settings, tasks: TaskRegistry, signals: Signals
    ) -> None:
        self.app = app
        self.settings = settings
        self.tasks = tasks
        self.signals = signals
        self._building = threading.Lock()
        self.built: QuartCelery | None = None

    def get(self) -> QuartCelery:
        """The app's Celery app.

        Raises ConfigurationError for settings of Celery and options of tasks that cannot be used.
        """
        with self._building:
            if self.built is None:
                celery = QuartCelery(self.app, self.tasks, self.signals)
                celery.conf.update(celery_settings(self.settings))
                for name in self.tasks:
                    celery.task_named(name)
                self.tasks.is_closed = True
                self.built = celery
            return self.built
