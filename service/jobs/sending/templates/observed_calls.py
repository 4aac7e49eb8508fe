"""Makes the publish call of a job, and tells the receivers of Celery's signals, as Celery does.

A receiver of `before_task_publish` is given the headers and the properties, and may change both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery import signals
from celery.utils.saferepr import saferepr

from service.jobs.celery.capture import PublishCall, copied
from service.jobs.sending.message import SendRequest
from service.logs.ids import REQUEST_ID, request_id_here
from service.results.marks import OWNER
from service.results.record import now

NO_CANVAS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_PLAIN_TYPES: Final = frozenset({int, float, bool, type(None)})
_MAX_PLAIN: Final = 100  # characters up to which `saferepr` gives what `repr` gives
# Celery 6 removes `task_sent`, which has been deprecated for long.
_TASK_SENT: Final[Any] = getattr(signals, "task_sent", None)
_SENDING_SIGNALS: Final[tuple[Any, ...]] = tuple(
    filter(None, (signals.before_task_publish, signals.after_task_publish, _TASK_SENT))
)


def is_observed() -> bool:
    """Whether other code wants to see, or to change, each message when it is sent."""
    for signal in _SENDING_SIGNALS:  # noqa: SIM110  `any` costs three times as much
        if signal.receivers:
            return True
    return False


def shown_as(value: Any, size: int, levels: int) -> str:
    """What Celery shows of arguments, in a fraction of its time for plain ones."""
    if _is_plain(value):
        text = repr(value)
        if len(text) <= _MAX_PLAIN:
            return text
    shown: str = saferepr(value, size, maxlevels=levels)
    return shown


def headers_of(
    request: SendRequest, queued_at: str, repr_size: int, repr_levels: int
) -> dict[str, Any]:
    """The headers in which one job of a template differs from the others."""
    headers = {
        "id": request.job_id,
        "root_id": request.job_id,
        "argsrepr": shown_as(request.args, repr_size, repr_levels),
        "kwargsrepr": shown_as(request.kwargs, repr_size, repr_levels),
        "queued_at": queued_at,
    }
    if owner := request.options.get("owner"):
        headers[OWNER] = owner
    if (named := request_id_here()) is not None:
        headers[REQUEST_ID] = named
    return headers


@dataclass(frozen=True, slots=True)
class ObservedCalls:
    """The publish calls of one message template, by what Celery made of a first one."""

    task: str
    options: Mapping[str, Any]  # without the properties
    headers: Mapping[str, Any]  # as they were before any receiver saw them
    properties: Mapping[str, Any]
    repr_size: int
    repr_levels: int

    @classmethod
    def like(cls, celery: Any, call: PublishCall) -> "ObservedCalls | None":
        """Those of this call; None where a receiver has changed how it is to be sent."""
        if call.made is None or call.properties != call.made.properties:
            return None
        return cls(
            task=call.task,
            options={k: v for k, v in call.options.items() if k not in call.properties},
            headers=call.made.headers,
            properties=call.made.properties,
            repr_size=celery.amqp.argsrepr_maxsize,
            repr_levels=celery.conf.task_repr_maxlevels,
        )

    def call(self, request: SendRequest) -> PublishCall:
        """The call that publishes this job, as the receivers have left it."""
        headers = {
            **copied(self.headers),
            **headers_of(request, now(), self.repr_size, self.repr_levels),
        }
        properties = {**self.properties, "correlation_id": request.job_id}
        body = (request.args, dict(request.kwargs), dict(NO_CANVAS))
        self._tell(body, headers, properties)
        options = {**self.options, **properties, "headers": headers}
        job_id, task, queued_at = (headers.get(name, "") for name in ("id", "task", "queued_at"))
        return PublishCall(job_id, task, queued_at, body, options)

    def is_as_usual(self, call: PublishCall) -> bool:
        """Whether the receivers have left alone when and how the job of a call is sent."""
        as_ever = {**self.properties, "correlation_id": call.job_id}
        return call.properties == as_ever and call.due_at is None

    def _tell(self, body: Any, headers: dict[str, Any], properties: dict[str, Any]) -> None:
        """Send the signals that `AMQP.send_task_message` sends, in its order."""
        options = self.options
        where = {"exchange": options["exchange"], "routing_key": options["routing_key"]}
        signals.before_task_publish.send(
            sender=self.task,
            body=body,
            **where,
            declare=[*(options["declare"] or ())],
            headers=headers,
            properties=properties,
            retry_policy=dict(options["retry_policy"] or {}),
        )
        signals.after_task_publish.send(sender=self.task, body=body, headers=headers, **where)
        if _TASK_SENT is not None and _TASK_SENT.receivers:
            _TASK_SENT.send(
                sender=self.task,
                task_id=headers["id"],
                task=self.task,
                args=body[0],
                kwargs=body[1],
                eta=headers["eta"],
                taskset=headers["group"],
            )


def _is_plain(value: Any) -> bool:
    """Whether `repr` gives what `saferepr` would, and needs no escape in JSON."""
    if type(value) is dict:
        if not all(type(name) is str and name.isidentifier() and name.isascii() for name in value):
            return False
        value = tuple(value.values())
    return type(value) is tuple and all(type(item) in _PLAIN_TYPES for item in value)
