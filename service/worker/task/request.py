"""A job as Celery's worker keeps it while it waits and runs, with one copy of each part."""

import logging
import sys
from contextlib import nullcontext
from typing import Any, Final

from celery import states
from celery.app.task import Context
from celery.worker import state
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import task_ready

from service.broker.celery_worker import began, gives_message_back
from service.broker.messages import DELIVERIES, ETA
from service.errors import ResultsUnavailableError
from service.jobs.celery.connections import COPY
from service.jobs.celery.quorum import QuorumQueues
from service.worker.log_records import ending
from service.worker.loop.celery_stacks import on_stacks
from service.worker.loop.process import process_of
from service.worker.task.in_child import after_children, handing_over

logger: Final = logging.getLogger(__name__)

# Set on every instance, and without slots kept in a dict of nearly 500 bytes.
_SLOTS: Final = (
    "_apply_result",
    "_delivery_info",
    "_ignore_result",
    "_message",
    "acknowledged",
    "time_limits",
    "time_start",
    "worker_pid",
)
# Fields that are equal in the messages of many jobs. (Interning others would cost more.)
_COMMON: Final = ("lang", "origin", "task")
_COMMON_PROPERTIES: Final = ("body_encoding", "reply_to")
_COMMON_DELIVERY_INFO: Final = ("exchange", "routing_key")
# Headers that RabbitMQ adds.
OF_RABBITMQ: Final = (
    *("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count"),
    *(DELIVERIES, COPY),  # which burying adds, and whoever publishes again
)
# Fields that Celery's Context knows; any other header is a custom one.
_NOT_HEADERS: Final = frozenset(
    (*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression")
)


class Request(CeleryRequest):
    """Keeps one copy of each part of a message: thousands of jobs are a quarter lighter for it.

    `Task.Request` is Celery's own seam for it.
    """

    __slots__ = (*_SLOTS, "is_kept")  # though its message was taken back: see worker/rabbitmq
    _app: Any
    _context: Any
    _eventer: Any
    _request_dict: dict[str, Any]

    def __init__(self, message: Any, *, decoded: bool = False, **options: Any) -> None:
        self._apply_result = self.time_start = self.worker_pid = None
        self.acknowledged, self.time_limits = False, CeleryRequest.time_limits
        self.is_kept = False
        if not decoded:
            # Celery has decoded the body by now, and has the tracer decode it once more. The tracer
            # takes a decoded body as it is: messages of the first protocol have one.
            options["body"] = message.payload
        if isinstance(queues := options["app"].amqp.queues, QuorumQueues):
            _forget_exchanges(message, queues)
        _share(message.delivery_info, _COMMON_DELIVERY_INFO)
        super().__init__(message, decoded=True, **options)
        details = self._request_dict
        properties = details["properties"]
        _share(details, _COMMON)
        _share(properties, _COMMON_PROPERTIES)
        details["reply_to"] = properties.get("reply_to")
        if ETA in properties:
            details["eta"] = properties[ETA]
        if details.get("root_id") == self.id:  # most jobs have no parent
            details["root_id"] = self._root_id = self.id
        if details["correlation_id"] == self.id:
            details["correlation_id"] = properties["correlation_id"] = self.id
        if "headers" not in details:
            # Celery's Context would find them by emptying a copy of all fields. (It would also
            # count what a receiver of `task_received` adds to the request.)
            headers = {name: details[name] for name in details if name not in _NOT_HEADERS}
            if headers:
                details["headers"] = headers
        message.content_type = _interned(message.content_type)
        message.content_encoding = _interned(message.content_encoding)
        message.body = message._raw = None  # noqa: SLF001  its `payload` has been kept
        message.headers = details  # the headers are among them

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  Celery's own name
        """Celery's own; nothing where only the events of workers are asked for, as by default."""
        groups = self._eventer and self._eventer.groups
        if not groups or "task" in groups:
            super().send_event(type, **fields)

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """The pool has begun to run the job."""
        super().on_accepted(pid, time_accepted)
        began(self)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Cancel a job that Celery can't acknowledge, after a lost connection.

        Its message goes back. That is no retry, of which a message was sent: a record that says
        RETRY would mean that this attempt has ended.
        """
        if not self.is_kept:
            super().cancel(pool, signal, emit_retry=emit_retry and not self.task.acks_late)

    def revoked(self) -> bool:
        """Whether the job is not to begin: Celery asks before it hands a job to the pool.

        Nor does a job whose lease may be over, as another worker may have it. It is returned.
        """
        with ending(self):
            if super().revoked():
                return True
        if not gives_message_back(self):
            return False
        logger.warning("Job %s is not begun here: its lease was not renewed in time", self.id)
        task_ready(self)
        self.reject(requeue=True)
        return True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the job as its pool can: Celery's own remote control asks for it.

        One that is scheduled is ended at once, and not when it is due: others may wait for it.
        """
        if self in state.scheduled_requests:  # type: ignore[attr-defined]  # not in celery-types
            self.revoked()
        else:
            with ending(self), handing_over():
                super().terminate(pool, signal)

    def _success_was_stored(self) -> Any:
        """Celery asks when the job's process was lost, and acknowledges the message if so.

        The chord that the job is a part of may not have been told. Where somebody has claimed to
        send its body, which may be that process, the message goes back: whoever takes it waits.
        """
        stored = super()._success_was_stored()  # type: ignore[misc]  # not in celery-types
        if stored and self.chord:
            backend: Any = self.task.backend  # it may be another one, by setting
            backend.on_chord_part_return(self._context, states.SUCCESS, stored["result"])
            is_claimed = getattr(backend, "has_claimed_body", lambda _: False)
            if self.task.acks_late and is_claimed(self._context.group):
                self.reject(requeue=True)
        return stored

    def on_failure(self, *args: Any, **options: Any) -> None:
        """The job has ended otherwise than well, whether its tracer has said so or not."""
        with ending(self), handing_over():
            super().on_failure(*args, **options)

    def acknowledge(self) -> None:
        """Acknowledge the message, when prefork's children have done what follows from its end."""
        after_children(super().acknowledge)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A limit has struck. At the hard one Celery calls the task's hooks before it acknowledges.

        If a hook raises, Celery does not acknowledge: this does.
        """
        try:
            # Prefork's parent runs no tracer, which would make the job the current one for hooks.
            is_parent = process_of(self._app.quart_app).prefork_pool is not None
            context: Any = Context(self._request_dict)
            on_stack = on_stacks(self.task, context) if is_parent else nullcontext()
            with ending(self), handing_over(), on_stack:
                super().on_timeout(soft, timeout)
        except Exception as error:
            task: Any = self.task
            is_stored = getattr(self._context, "is_stored", False)
            if isinstance(error, ResultsUnavailableError) and not is_stored:
                logger.warning("The failure of job %s was not stored: %s", self.id, error)
                self.reject(requeue=True)
                return
            logger.exception("A hook of job %s failed at its hard time limit", self.id)
            if task.acks_late and task.acks_on_timeout:
                self.acknowledge()
            elif task.acks_late:
                self.reject(requeue=True)


def _forget_exchanges(message: Any, queues: QuorumQueues) -> None:
    """Have the message look as if it had been published to its queue and never been delayed.

    Celery sends a retry as the message came. It would be delayed for the wrong time, or come to the
    default queue. RabbitMQ drops what was delayed before by the same exchanges, as its `x-death`
    header tells, for a message that goes in circles.
    """
    info = message.delivery_info
    name = queues.named(info["routing_key"])
    message.delivery_info = {**info, "exchange": "", "routing_key": name}
    for header in [name for name in message.headers if name.startswith(OF_RABBITMQ)]:
        del message.headers[header]


def _share(details: dict[str, Any], names: tuple[str, ...]) -> None:
    """Have texts that are equal in many messages be one object."""
    for name in names:
        if name in details:
            details[name] = _interned(details[name])


def _interned(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value
