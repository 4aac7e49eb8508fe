"""A job as Celery's worker keeps it while it waits and runs, holding nothing twice."""

import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from celery.app.task import Context
from celery.worker.request import Request as CeleryRequest
from celery.worker.state import task_ready

from service.broker.celery_worker import began, lost_lease
from service.errors import ResultsUnavailableError
from service.worker.loop.celery_stacks import on_stacks
from service.worker.loop.lifespan import parents_pool

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
# What is the same in the messages of many jobs. (Interning what is not would cost more.)
_COMMON: Final = ("lang", "origin", "task")
_COMMON_PROPERTIES: Final = ("body_encoding", "reply_to")
_COMMON_PLACES: Final = ("exchange", "routing_key")
# What a job's context does not take for headers of the sender's own.
_NOT_HEADERS: Final = frozenset(
    (*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression")
)


class Request(CeleryRequest):
    """Lets go of what it would hold twice: thousands of jobs are a quarter lighter for it.

    `Task.Request` is Celery's own seam for it.
    """

    __slots__ = _SLOTS

    def __init__(self, message: Any, *, decoded: bool = False, **options: Any) -> None:
        self._apply_result = self.time_start = self.worker_pid = None
        self.acknowledged, self.time_limits = False, CeleryRequest.time_limits
        if not decoded:
            # Celery has decoded the body by now, and has the tracer do it once more. Given what
            # was decoded, as it is with messages of the first protocol, the tracer takes that.
            options["body"] = message.payload
        _share(message.delivery_info, _COMMON_PLACES)
        super().__init__(message, decoded=True, **options)
        details: dict[str, Any] = self._request_dict  # type: ignore[attr-defined]  # not in celery-types
        properties = details["properties"]
        _share(details, _COMMON)
        _share(properties, _COMMON_PROPERTIES)
        details["reply_to"] = properties.get("reply_to")
        if details.get("root_id") == self.id:  # most jobs are nobody's children
            details["root_id"] = self._root_id = self.id
        if details["correlation_id"] == self.id:
            details["correlation_id"] = properties["correlation_id"] = self.id
        if "headers" not in details:
            # Celery's Context would find them out by emptying a copy of all there is. (It would
            # also count as such what a receiver of `task_received` adds to the request.)
            headers = {name: details[name] for name in details if name not in _NOT_HEADERS}
            if headers:
                details["headers"] = headers
        message.content_type = _interned(message.content_type)
        message.content_encoding = _interned(message.content_encoding)
        message.body = message._raw = None  # noqa: SLF001  its `payload` has been kept
        message.headers = details  # what they were, and more

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """The pool has begun to run the job."""
        super().on_accepted(pid, time_accepted)
        began(self)

    def revoked(self) -> bool:
        """Whether it is not to be begun: Celery asks this of each job that it hands to the pool.

        Nor is one whose lease was lost while it waited: another worker has it.
        """
        if super().revoked():
            return True
        if not lost_lease(self):
            return False
        logger.warning("Job %s is not begun here: its lease was lost meanwhile", self.id)
        task_ready(self)
        self.reject(requeue=True)
        return True

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A limit has struck. At the hard one Celery calls the task's hooks before it acknowledges.

        It would not acknowledge at all if one of them raised.
        """
        try:
            with self._as_hooks_see_it():
                super().on_timeout(soft, timeout)
        except Exception as error:
            task: Any = self.task
            stored = getattr(self._context, "stored_state", None)  # type: ignore[attr-defined]  # not in celery-types
            if isinstance(error, ResultsUnavailableError) and stored is None:
                logger.warning("The failure of job %s was not stored: %s", self.id, error)
                self.reject(requeue=True)
                return
            logger.exception("A hook of job %s failed at its hard time limit", self.id)
            if task.acks_late and task.acks_on_timeout:
                self.acknowledge()
            elif task.acks_late:
                self.reject(requeue=True)

    def _as_hooks_see_it(self) -> AbstractContextManager[None]:
        """In prefork's parent, which runs no tracer, have the job be the current one."""
        app: Any = self._app  # type: ignore[attr-defined]  # not in celery-types
        if parents_pool(app.quart_app) is None:
            return nullcontext()
        return on_stacks(self.task, Context(self._request_dict))  # type: ignore[attr-defined]  # as above


def _share(details: dict[str, Any], names: tuple[str, ...]) -> None:
    """Have texts that are equal in many messages be one object."""
    for name in names:
        if name in details:
            details[name] = _interned(details[name])


def _interned(value: Any) -> Any:
    return sys.intern(value) if type(value) is str else value
