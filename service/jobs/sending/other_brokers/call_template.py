"""A task's publish call with gaps: all that is the same for each job of the task is in place."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import pack
from typing import Any, Final

from amqp.serialization import dumps as dump_amqp

from service.jobs.celery.capture import PublishCall
from service.jobs.sending.message import SendRequest, publish_call_for
from service.jobs.sending.message_template import (
    NO_CANVAS,
    TemplateKey,
    can_have_template,
    encode_body,
    shown_as,
    template_key,
)
from service.logs.ids import REQUEST_ID, request_id_here
from service.rabbitmq.publishing import Publication
from service.results.marks import OWNER
from service.results.record import now

_GAPS: Final = ("id", "root_id", "argsrepr", "kwargsrepr", "queued_at", OWNER, REQUEST_ID)
_MARK: Final = "\x00%s\x00"  # stands for the value of a gap: no header has such a text
_PACKED_MARK: Final = re.compile(rb"S\x00\x00\x00.\x00([\w-]+)\x00", re.DOTALL)
# AMQP's properties, in their order, around the headers: their names, and how py-amqp packs them.
_BEFORE: Final = (("content_type", "s"), ("content_encoding", "s"))
_BETWEEN: Final = (("delivery_mode", "o"), ("priority", "o"))
_AFTER: Final = (("reply_to", "s"),)


@dataclass(frozen=True, slots=True)
class ReadyCall(PublishCall):
    """A publish call whose message is encoded."""

    publication: Publication


class _EncodedMessage:
    """Stands for py-amqp's message where it is framed."""

    __slots__ = ("_packed", "body", "properties")

    def __init__(self, body: bytes, packed: bytes, job_id: str) -> None:
        self.body, self._packed = body, packed
        self.properties = {"correlation_id": job_id}

    def _serialize_properties(self) -> bytes:
        return self._packed


@dataclass(frozen=True, slots=True)
class _PackedProperties:
    """The packed properties of a message, split at the gaps of its headers."""

    begin: bytes
    headers: tuple[bytes, ...]  # with the name of each gap between
    size: int  # of the headers without what is in the gaps
    between: bytes
    end: bytes

    def fill(self, headers: Mapping[str, Any]) -> bytes:
        """The properties with these headers."""
        parts, size = [*self.headers], self.size
        for at in range(1, len(parts), 2):
            value = headers[parts[at].decode()].encode()
            parts[at] = b"S" + pack(">I", len(value)) + value
            size += len(parts[at])
        job_id = headers["id"].encode()
        correlation_id = bytes((len(job_id),)) + job_id
        table = pack(">I", size)
        return b"".join((self.begin, table, *parts, self.between, correlation_id, self.end))


def _packed_properties(message: Any) -> _PackedProperties | None:
    """The properties of a message with gaps; None where they are not as Celery's are."""
    given = message.properties
    headers = dict(given["application_headers"])
    with_marks = {k: _MARK % k if k in _GAPS else v for k, v in headers.items()}
    pieces = tuple(_PACKED_MARK.split(_packed("F", with_marks)[4:]))
    packed = _PackedProperties(
        begin=message._serialize_properties()[:2] + _packed_each(given, _BEFORE),  # noqa: SLF001  py-amqp
        headers=pieces,
        size=sum(map(len, pieces[::2])),
        between=_packed_each(given, _BETWEEN),
        end=_packed_each(given, _AFTER),
    )
    is_same: bool = packed.fill(headers) == message._serialize_properties()  # noqa: SLF001  as above
    return packed if is_same else None


def _packed(form: str, *values: Any) -> bytes:
    return bytes(dump_amqp(form, values))


def _packed_each(given: Mapping[str, Any], names: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join(
        _packed(form, given[name]) for name, form in names if given.get(name) is not None
    )


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """The options of a publish call, and its message, with the headers of one job."""

    task: str
    options: dict[str, Any]
    headers: dict[str, Any]
    repr_size: int
    repr_levels: int
    sample: Publication
    packed: _PackedProperties | None

    def fill(self, request: SendRequest) -> PublishCall:
        """The call that publishes this job. Raises kombu's EncodeError."""
        args, kwargs, job_id = request.args, request.kwargs, request.job_id
        queued_at = now()
        headers = {
            **self.headers,
            "id": job_id,
            "root_id": job_id,
            "argsrepr": shown_as(args, self.repr_size, self.repr_levels),
            "kwargsrepr": shown_as(kwargs, self.repr_size, self.repr_levels),
            "queued_at": queued_at,
        }
        if owner := request.options.get("owner"):
            headers[OWNER] = owner
        if (named := request_id_here()) is not None:
            headers[REQUEST_ID] = named
        options = {**self.options, "headers": headers, "correlation_id": job_id}
        body = (args, kwargs, NO_CANVAS)
        if self.packed is None:
            return PublishCall(job_id, self.task, queued_at, body, options)
        _, exchange, routing_key, mandatory = self.sample
        message = _EncodedMessage(encode_body(body), self.packed.fill(headers), job_id)
        publication = Publication(message, exchange, routing_key, mandatory)
        return ReadyCall(job_id, self.task, queued_at, body, options, publication)


class CallTemplates:
    """The templates of one Celery app."""

    def __init__(self, celery: Any, encode: Callable[[PublishCall], Publication]) -> None:
        """`encode` gives the message that Kombu makes of a call."""
        self._celery = celery
        self._encode = encode
        self._templates: dict[TemplateKey, CallTemplate | None] = {}

    def call_for(self, request: SendRequest) -> PublishCall:
        """The call that publishes a job: from a template, or else by Celery's own code."""
        if (key := template_key(self._celery, request)) is None:
            return publish_call_for(request)
        if key not in self._templates:
            self._templates[key] = self._make(request)
        template = self._templates[key]
        return publish_call_for(request) if template is None else template.fill(request)

    def _make(self, request: SendRequest) -> CallTemplate | None:
        if not can_have_template(self._celery, request.task):
            return None
        call = publish_call_for(request)
        headers = call.options["headers"]
        if headers["eta"] or headers["expires"]:
            return None
        sample = self._encode(call)
        return CallTemplate(
            request.task.name,
            call.options,
            headers,
            self._celery.amqp.argsrepr_maxsize,
            self._celery.conf.task_repr_maxlevels,
            sample,
            _packed_properties(sample.message),
        )
