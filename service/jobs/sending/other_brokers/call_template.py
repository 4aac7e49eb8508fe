"""A task's publish call with gaps: all that is the same for each job of the task is in place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.jobs.celery.capture import PublishCall
from service.jobs.sending.message import SendRequest, publish_call_for
from service.jobs.sending.templates.message_template import (
    RecordTemplate,
    TemplateKey,
    can_have_template,
    encode_body,
    template_key,
)
from service.jobs.sending.templates.observed_calls import NO_CANVAS, headers_of, is_observed
from service.logs.ids import REQUEST_ID
from service.rabbitmq.packing import PackedTemplate
from service.rabbitmq.publishing import Publication
from service.results.marks import OWNER
from service.results.record import now

_GAPS: Final = ("id", "root_id", "argsrepr", "kwargsrepr", "queued_at", OWNER, REQUEST_ID)


class ReadyCall(PublishCall, frozen=True, kw_only=True):
    """A publish call whose message is encoded, and the record of its job without any marks."""

    publication: Publication
    record: str


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """The options of a publish call, its message and its job's record, with the headers of one."""

    task: str
    options: dict[str, Any]
    headers: dict[str, Any]
    repr_size: int
    repr_levels: int
    sample: Publication
    packed: PackedTemplate | None
    record: RecordTemplate

    def fill(self, request: SendRequest) -> PublishCall:
        """The call that publishes this job. Raises kombu's EncodeError."""
        job_id, queued_at = request.job_id, now()
        headers = {
            **self.headers,
            **headers_of(request, queued_at, self.repr_size, self.repr_levels),
        }
        options = {**self.options, "headers": headers, "correlation_id": job_id}
        body = (request.args, request.kwargs, NO_CANVAS)
        if self.packed is None:
            return PublishCall(job_id, self.task, queued_at, body, options)
        _, exchange, routing_key, mandatory = self.sample
        message = self.packed.fill(headers, encode_body(body), job_id)
        publication = Publication(message, exchange, routing_key, mandatory)
        record = self.record.fill(job_id, queued_at, request.options.get("owner"))
        return ReadyCall(
            job_id, self.task, queued_at, body, options, publication=publication, record=record
        )


class CallTemplates:
    """The templates of one Celery app."""

    def __init__(self, celery: Any, encode: Callable[[PublishCall], Publication]) -> None:
        """`encode` gives the message that Kombu makes of a call."""
        self._celery = celery
        self._encode = encode
        self._templates: dict[TemplateKey, CallTemplate | None] = {}

    def call_for(self, request: SendRequest) -> PublishCall:
        """The call that publishes a job: from a template, or else by Celery's own code."""
        if (key := template_key(self._celery, request)) is None or is_observed():
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
            PackedTemplate.of(sample.message, sample.arguments, _GAPS),
            RecordTemplate.of(request.task.name, call.queue, has_owner=call.owner is not None),
        )
