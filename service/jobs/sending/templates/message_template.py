"""A task's message with gaps: all that is the same for each job of the task is in place.

Celery's routers, options and representation of arguments cost several times what filling costs.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import uuid4

from celery import Task
from celery.app.routes import MapRoute
from kombu.exceptions import EncodeError
from kombu.utils.json import JSONEncoder

from service.jobs.celery.capture import PublishCall
from service.jobs.sending.message import BuiltMessage, Destination, SendRequest, queued_record
from service.jobs.sending.templates.observed_calls import NO_CANVAS, ObservedCalls, shown_as
from service.logs.ids import REQUEST_ID, request_id_here
from service.results.marks import OWNER
from service.results.record import encode_queued

# Placeholders for a job's own values. They hold NUL, which JSON always escapes: no name or option
# can contain one.
_ID, _TAG, _TIME, _ARGS, _KWARGS, _BODY, _OWNED, _REQUEST = (
    f"\x00{mark}\x00" for mark in "ITQAKBOR"
)
_SHOWN: Final = {"\x00S\x00": None}  # stands for the object of arguments
_HEADERS: Final = {"\x00H\x00": None}  # stands for the object of headers
_GAP: Final = re.compile(r'(?:\{")?\\u0000([ITQAKBORSH])\\u0000(?:": null\})?')
_encode: Final = JSONEncoder().encode  # as Kombu's `dumps`, which makes an encoder for each call
# Options of a call that a template can have.
_IN_TEMPLATE: Final = frozenset({"queue", "priority", "job_id", "owner"})
# The task, its queue and priority, and whether its jobs have an owner and a request.
TemplateKey: TypeAlias = tuple[str, str | None, int | None, bool, bool]


def template_key(celery: Any, request: SendRequest) -> TemplateKey | None:
    """What all jobs of one template share; None where Celery's own code has to make the message."""
    options = request.options
    if (options and not options.keys() <= _IN_TEMPLATE) or celery.current_worker_task is not None:
        return None
    queue, priority = options.get("queue"), options.get("priority")
    return request.task.name, queue, priority, "owner" in options, request_id_here() is not None


def can_have_template(celery: Any, task: Any) -> bool:
    """Whether Celery's own code makes all messages of the task alike."""
    return (
        task.apply_async.__func__ is Task.apply_async
        and task.shadow_name.__func__ is Task.shadow_name
        and task.serializer in (None, "json")
        and celery.conf.task_protocol == 2  # noqa: PLR2004  of Celery's messages
        and not getattr(task, "compression", None)
        and not getattr(task, "_dump_pydantic_arguments", None)  # it changes the arguments
        and not celery.conf.task_compression
        and not celery.conf.task_send_sent_event
        and not celery.conf.task_always_eager
        and all(isinstance(route, MapRoute) for route in celery.amqp.router.routes)
    )


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """Text of a message and of a record, split at the gaps."""

    task: str | None
    message: tuple[str, ...]
    message_with_headers: tuple[str, ...]  # with one gap for all headers
    calls: ObservedCalls | None  # None where a receiver has changed how the first one was sent
    record: tuple[str, ...]
    record_with_arguments: tuple[str, ...]
    destinations: tuple[Destination, ...]
    queue: str
    repr_size: int
    repr_levels: int

    def fill(
        self, request: SendRequest, queued_at: str, arguments: Mapping[str, Any] | None
    ) -> BuiltMessage:
        """Build the message of one job; its record has the arguments, unless they are None.

        Raises kombu's EncodeError where the body is not JSON.
        """
        args, kwargs = request.args, request.kwargs
        body = encode_body((args, kwargs, NO_CANVAS))
        values = {
            "I": request.job_id,
            "T": str(uuid4()),
            "Q": queued_at,
            "A": self._inside_json(args),
            "K": self._inside_json(kwargs) if kwargs else "{}",
            "B": base64.b64encode(body).decode(),
        }
        get = values.get
        if owner := request.options.get("owner"):
            values["O"] = json.dumps(owner)[1:-1]
        if (named := request_id_here()) is not None:
            values["R"] = json.dumps(named)[1:-1]
        if arguments is None:
            record = "".join([get(part, part) for part in self.record])
        else:
            values["S"] = json.dumps(arguments)
            record = "".join([get(part, part) for part in self.record_with_arguments])
        message = "".join([get(part, part) for part in self.message])
        return BuiltMessage(
            request.job_id, self.task, message, record, self.destinations, self.queue
        )

    def fill_observed(
        self, call: PublishCall, arguments: Mapping[str, Any] | None
    ) -> BuiltMessage | None:
        """Build the message of an observed call; None where Celery's own code has to do that.

        Raises kombu's EncodeError where the body is not JSON.
        """
        if self.calls is None or not self.calls.is_as_usual(call):
            return None
        values = {
            "I": call.job_id,
            "T": str(uuid4()),
            "B": base64.b64encode(encode_body(call.body)).decode(),
            "H": _encode(call.options["headers"]),
        }
        message = "".join([values.get(part, part) for part in self.message_with_headers])
        record = queued_record(call, arguments=arguments)
        return BuiltMessage(call.job_id, self.task, message, record, self.destinations, self.queue)

    def _inside_json(self, value: Any) -> str:
        """What Celery shows of arguments, as the inside of a JSON string."""
        shown = shown_as(value, self.repr_size, self.repr_levels)
        return json.dumps(shown)[1:-1]


@dataclass(frozen=True, slots=True)
class RecordTemplate:
    """The text of a record of a job that waits, split at the gaps; it has no marks."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, task: str, queue: str, *, has_owner: bool) -> "RecordTemplate":
        """The template for the jobs of a task in a queue, all of which have an owner, or none."""
        owner = _OWNED if has_owner else None
        return cls(_split(encode_queued(_ID, task, _TIME, owner=owner, queue=queue)))

    def fill(self, job_id: str, queued_at: str, owner: str | None) -> str:
        """The record of one job."""
        values = {"I": job_id, "Q": queued_at}
        if owner:
            values["O"] = json.dumps(owner)[1:-1]
        get = values.get
        return "".join([get(part, part) for part in self.parts])


def encode_body(body: tuple[Any, ...]) -> bytes:
    """The body of a message as JSON. Raises kombu's EncodeError."""
    try:
        return _encode(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(str(error)) from error


def make_template(
    celery: Any, sample: BuiltMessage, calls: ObservedCalls | None
) -> MessageTemplate | None:
    """Make a template of one message, or None where a task's messages depend on the moment."""
    message = json.loads(sample.message)
    headers, properties = message["headers"], message["properties"]
    if headers["eta"] or headers["expires"] or len(sample.destinations) != 1:
        return None
    if message["content-type"] != "application/json" or properties["body_encoding"] != "base64":
        return None
    message["body"] = _BODY
    headers |= {"id": _ID, "root_id": _ID, "argsrepr": _ARGS, "kwargsrepr": _KWARGS}
    headers["queued_at"] = _TIME
    owner = None
    if OWNER in headers:
        headers[OWNER] = owner = _OWNED
    if REQUEST_ID in headers:
        headers[REQUEST_ID] = _REQUEST
    properties |= {"correlation_id": _ID, "delivery_tag": _TAG}
    with_gap = {**message, "headers": _HEADERS}
    return MessageTemplate(
        task=sample.task,
        message=_split(json.dumps(message)),
        message_with_headers=_split(json.dumps(with_gap)),
        calls=calls,
        record=_split(encode_queued(_ID, sample.task, _TIME, owner=owner, queue=sample.queue)),
        record_with_arguments=_split(
            encode_queued(
                _ID, sample.task, _TIME, owner=owner, queue=sample.queue, arguments=_SHOWN
            )
        ),
        destinations=sample.destinations,
        queue=sample.queue,
        repr_size=celery.amqp.argsrepr_maxsize,
        repr_levels=celery.conf.task_repr_maxlevels,
    )


def _split(text: str) -> tuple[str, ...]:
    """The text around gaps, with the mark of each gap between."""
    return tuple(_GAP.split(text))
