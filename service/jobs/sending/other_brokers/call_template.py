"""A task's publish call with gaps: all that is the same for each job of the task is in place."""

from dataclasses import dataclass
from typing import Any

from service.jobs.celery.capture import PublishCall
from service.jobs.sending.message import SendRequest, publish_call_for
from service.jobs.sending.message_template import (
    IN_TEMPLATE,
    NO_CANVAS,
    can_have_template,
    is_observed,
    shown_as,
)
from service.logs.ids import REQUEST_ID, request_id_here
from service.results.marks import OWNER
from service.results.record import now


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """The options of a publish call, with the headers of one job."""

    task: str
    options: dict[str, Any]
    headers: dict[str, Any]
    repr_size: int
    repr_levels: int

    def fill(self, request: SendRequest) -> PublishCall:
        """The call that publishes this job."""
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
        return PublishCall(job_id, self.task, queued_at, (args, kwargs, NO_CANVAS), options)


class CallTemplates:
    """The templates of one Celery app, by the task, its queue and priority, and its headers."""

    def __init__(self, celery: Any) -> None:
        self._celery = celery
        self._templates: dict[tuple[Any, ...], CallTemplate | None] = {}

    def call_for(self, request: SendRequest) -> PublishCall:
        """The call that publishes a job: from a template, or else by Celery's own code."""
        options = request.options
        if (options and not options.keys() <= IN_TEMPLATE) or is_observed(self._celery):
            return publish_call_for(request)
        has_owner, has_request = "owner" in options, request_id_here() is not None
        queue, priority = options.get("queue"), options.get("priority")
        key = (request.task.name, queue, priority, has_owner, has_request)
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
        return CallTemplate(
            request.task.name,
            call.options,
            headers,
            self._celery.amqp.argsrepr_maxsize,
            self._celery.conf.task_repr_maxlevels,
        )
