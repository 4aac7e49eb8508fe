"""The Celery app of a Quart app."""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, Final, Protocol

from celery import Celery
from kombu.utils import symbol_by_name
from kombu.utils.uuid import uuid
from quart import Quart

from service.jobs.blueprint import TaskRegistry, check_options
from service.jobs.celery import connections
from service.jobs.celery.capture import PublishCapture, current_capture
from service.jobs.celery.moments import delay_of, moments_of
from service.jobs.celery.patience import is_patient, with_patience
from service.jobs.celery.quorum import QuorumQueues
from service.jobs.celery.settings import BACKENDS
from service.jobs.celery.sure_routing import SureRouting
from service.logs.ids import REQUEST_ID, request_id_here
from service.results.marks import OWNER, TAGS, tags_in
from service.results.record import now
from service.signals import Signals

# By dotted path: these rooms are above this one.
TASK_BASE: Final = "service.worker.task.base:ContextTask"
_LIFESPAN: Final = "service.worker.loop.lifespan:LifespanStep"
_REPORTER: Final = "service.worker.reporter:ReporterStep"
_HEALTH: Final = "service.health.worker:HealthStep"
_GOSSIP: Final = "service.worker.gossip:GossipStep"
_QUESTIONS: Final = "service.worker.pool.stacks.children:ChildQuestionsStep"
_BURYING: Final = "service.worker.rabbitmq.burying:BuryingStep"


class OffLoop(Protocol):
    """How a worker makes blocking calls for code that runs on its event loop."""

    def is_needed(self) -> bool:
        """Whether the caller runs on the loop, and can wait for a thread."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Make the call in a thread, and wait for it without blocking the loop."""


class QuartCelery(Celery):
    """A Celery app that belongs to one Quart app."""

    amqp_cls = f"{connections.__name__}:AMQP"
    control_cls = f"{connections.__name__}:Control"

    def __init__(
        self,
        quart_app: Quart,
        handles: TaskRegistry,
        signals: Signals,
        settings: Mapping[str, Any],
        *,
        max_deliveries: int,
        **options: Any,
    ) -> None:
        super().__init__(
            quart_app.name,
            # A worker makes its app current; in a web process two apps must not mix.
            set_as_current=False,
            task_cls=TASK_BASE,
            **options,
        )
        self._settings = settings
        self.belong_to(quart_app, handles, signals, max_deliveries)

    def belong_to(
        self, quart_app: Quart, handles: TaskRegistry, signals: Signals, max_deliveries: int
    ) -> None:
        """Be the Celery app of this Quart app."""
        self.quart_app = quart_app
        self.handles = handles
        self.signals = signals
        self.process_loop: OffLoop | None = None  # of a worker that runs jobs on one
        self.max_deliveries = max_deliveries
        self._routing = SureRouting(self)
        self.capture: PublishCapture | None = None  # what publishes, in a test without a broker
        steps = (_LIFESPAN, _REPORTER, _HEALTH, _GOSSIP, _QUESTIONS, _BURYING)
        self.steps["worker"].update(steps)
        # Celery's own seam for this, so that `conf.result_backend` is an address that others know.
        self.loader.override_backends = {**self.loader.override_backends, **BACKENDS}

    def prepare_config(self, c: Any) -> Any:
        """Celery's own, with the service's settings behind those of `config_from_object`."""
        prepared: Any = super().prepare_config(c)
        return ChainMap(prepared or {}, dict(self._settings))

    def declare(self, name: str) -> None:
        """Have the handle of this name made a task when tasks are first asked for.

        As with Celery's own, configuration that is set before counts. Raises ConfigurationError.
        """
        handle = self.handles[name]
        # shared=False: a shared task is put into every other Celery app of the process too.
        options: dict[str, Any] = {**handle.celery_options, "shared": False}
        check_options(handle, options.get("base") or self.Task)
        self.task(name=name, **options)(handle.function)  # type: ignore[no-untyped-call]  # by its options

    def task_named(self, name: str) -> Any:
        """The task object of this name."""
        return self.tasks[name]

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
            task = self._context_task(task)()
        elif not isinstance(task, self._task_base):
            task.__class__ = self._context_task(type(task))
        task.bind(self)  # before `autoretry_for` wraps what binding has made of the body
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
        base: type = symbol_by_name(TASK_BASE)
        return base

    _uses_utc = cached_property(Celery.uses_utc_timezone)

    def uses_utc_timezone(self) -> bool:
        """Celery's own, asked once: it takes a lock, and a worker asks for each message."""
        return self._uses_utc

    def off_loop(self, function: Callable[[], Any]) -> Any:
        """Make a blocking call: here, or in a thread where the caller runs on the event loop."""
        loop = self.loop_here
        return function() if loop is None else loop.call(function)

    @property
    def loop_here(self) -> OffLoop | None:
        """The worker's event loop, if the caller runs on it in code that can wait."""
        loop = self.process_loop
        return loop if loop is not None and loop.is_needed() else None

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Celery's own, or the capture inside `capture_publishes`.

        Code on the event loop must not hold one of the few producers. A group of Celery's takes one
        for all its tasks; on the loop each of its tasks takes its own, in a thread.
        """
        if producer is None and (capture := self._capture_here) is not None:
            return nullcontext(capture)
        if producer is None and self.loop_here is not None:
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
        if (handle := self.handles.get(name)) is not None:
            args, kwargs = handle.arguments.encode(args, kwargs)
        headers = options["headers"] = {"queued_at": queued_at, **(options.get("headers") or {})}
        if (owner := headers.get(OWNER) or self._owner_of_next()) is not None:
            headers[OWNER] = owner
        if REQUEST_ID not in headers and (request := self._request_of_next()) is not None:
            headers[REQUEST_ID] = request
        options |= moments_of(self, options)
        options |= delay_of(self, name, args, kwargs, options)
        options, waits = with_patience(options), is_patient()
        if self._capture_here is None and isinstance(self.amqp.queues, QuorumQueues):
            options = self._routing.options(options)
        send = partial(super().send_task, name, args, kwargs, *positional, **options)

        def record_and_send() -> Any:
            # The backend may be another one, by setting.
            store_queued = getattr(self.backend, "store_queued", None)
            tags = tags_in(headers.get(TAGS))
            amqp: Any = self.amqp
            routed = amqp.router.route(dict(options), name, args or (), kwargs or {})
            queue = _routed_queue(routed)
            if store_queued is not None and not options.get("ignore_result"):
                more = {"owner": owner, "queue": queue, "tags": tags}
                store_queued(job_id, name, queued_at, waits=waits, **more)
            sent = self._routing.send(send, options, routed.get("queue"))
            parent: Any = self.current_worker_task
            if parent and parent.request.id == job_id:
                parent.request.goes_on = True  # though this call of it may end by Celery's Ignore
            self.signals.send_queued(job_id, name, queue, tags, options.get("group_id"))
            return sent

        return send() if self._capture_here is not None else self.off_loop(record_and_send)

    @property
    def _capture_here(self) -> PublishCapture | None:
        """What publishes in place of Kombu, if anything does here."""
        return current_capture.get() or self.capture

    def _owner_of_next(self) -> str | None:
        """Whose job is being sent: as its sender says, else as of the job that sends it.

        So the later jobs of a canvas, which workers send, are the same owner's.
        """
        if (capture := current_capture.get()) is not None and capture.owner is not None:
            return capture.owner
        return self._of_sender(OWNER)

    def _request_of_next(self) -> str | None:
        """The id of the request that the job is sent in, or that the job is for which sends it."""
        return request_id_here() or self._of_sender(REQUEST_ID)

    def _of_sender(self, name: str) -> str | None:
        """A header of the job that the caller runs in."""
        parent: Any = self.current_worker_task
        value = getattr(parent.request, name, None) if parent else None
        return value if isinstance(value, str) and value else None


def _routed_queue(routed: Mapping[str, Any]) -> str:
    """Where Celery's own routing puts the job, as its worker will name the queue."""
    if key := routed.get("routing_key"):
        return str(key)
    queue: Any = routed.get("queue")
    is_direct = getattr(queue, "exchange", None) is None or queue.exchange.type == "direct"
    return str((queue.name if is_direct else queue.routing_key) if queue else "")
