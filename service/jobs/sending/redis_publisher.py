"""Publishes on the service's own Redis: natively, on the event loop, in batches."""

import asyncio
from collections.abc import Sequence
from typing import Final

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.message import (
    Accepted,
    BuiltMessage,
    MessageBuilder,
    SendRequest,
    publish_call_for,
)
from service.jobs.sending.message_template import (
    MessageTemplate,
    can_have_template,
    is_observed,
    make_template,
)
from service.results.record import now

_MAX_STEP: Final = 100  # jobs of one canvas that are written in one step
_MAX_ON_LOOP: Final = 10  # messages that are built on the event loop, which stands still meanwhile
_IN_TEMPLATE: Final = frozenset({"queue", "priority", "job_id"})  # options that a template can have


class RedisPublisher:
    """Writes the messages that Celery and Kombu would write."""

    def __init__(self, celery: QuartCelery, writer: BatchWriter) -> None:
        self.celery = celery
        self._writer = writer
        self._builder = MessageBuilder(celery)
        self._templates: dict[tuple[str, str | None, int | None], MessageTemplate | None] = {}

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call, from a template where its task has one."""
        arguments = self.celery.shown_arguments(request.task, request.args, request.kwargs)
        template = self._template_for(request)
        if template is None:
            message = self._builder.build(publish_call_for(request), arguments)
        else:
            message = template.fill(request, now(), arguments)
        (accepted,) = await self._writer.write([message], request.conditions)
        return accepted

    async def send_canvas(
        self, calls: Sequence[PublishCall], followers: Sequence[BuiltMessage]
    ) -> None:
        """Write the followers' records first: the jobs that they follow may be done at once."""
        messages = [*followers]
        if len(calls) <= _MAX_ON_LOOP:
            messages += map(self._builder.build, calls)
        else:
            messages += await asyncio.to_thread(lambda: [*map(self._builder.build, calls)])
        for start in range(0, len(messages), _MAX_STEP):
            try:
                await self._writer.write(messages[start : start + _MAX_STEP])
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(
                    error.reason, maybe_accepted=error.maybe_accepted or start > 0
                ) from error

    async def revoke(self, job_id: str) -> None:
        """Publish what Celery's `control.revoke` would."""
        await self._writer.write([self._builder.build_revoke(job_id)])

    def _template_for(self, request: SendRequest) -> MessageTemplate | None:
        """The template, or None where Celery's own code has to build the message."""
        task, options = request.task, request.options
        if (options and not options.keys() <= _IN_TEMPLATE) or is_observed(self.celery):
            return None
        key = (task.name, options.get("queue"), options.get("priority"))
        if key in self._templates:
            return self._templates[key]
        template = None
        if can_have_template(self.celery, task):
            sample = self._builder.build(publish_call_for(request))
            template = make_template(self.celery, sample)
        self._templates[key] = template
        return template
