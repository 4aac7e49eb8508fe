"""Publishes on the service's own Redis: natively, on the event loop, in batches."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from itertools import chain
from typing import Any, Final, TypeAlias

from msgspec.structs import replace
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.arguments import tags_of
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import CanvasContent
from service.jobs.sending.journal import Journal, Journals
from service.jobs.sending.message import (
    Accepted,
    BuiltMessage,
    MessageBuilder,
    SendRequest,
    publish_call_for,
)
from service.jobs.sending.templates.message_template import (
    MessageTemplate,
    TemplateKey,
    can_have_template,
    make_template,
    template_key,
)
from service.jobs.sending.templates.observed_calls import ObservedCalls, is_observed
from service.redis.bounded import bounded
from service.redis.cancelled import make_due, release
from service.redis.keys import broker_keys
from service.results.marks import IDEMPOTENCY
from service.results.record import encode_queued, now

_MAX_STEP: Final = 100  # jobs of one canvas that are written in one step, some milliseconds long
_MAX_ON_LOOP: Final = 10  # messages that are built before the event loop may serve others
Step: TypeAlias = list[BuiltMessage]


class RedisPublisher:
    """Writes the messages that Celery and Kombu would write."""

    server = "Redis"

    def __init__(self, celery: QuartCelery, writer: BatchWriter, journals: Journals) -> None:
        self.celery = celery
        self.journals = journals
        self._writer = writer
        writer.paused_lists = broker_keys(celery.conf).paused_lists
        self._builder = MessageBuilder(celery)
        self._templates: dict[TemplateKey, MessageTemplate | None] = {}

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call, from a template where its task has one."""
        arguments = self.celery.shown_arguments(request.task, request.args, request.kwargs)
        message, queued_at = self._build(request, arguments)
        if key := self._writer.idempotency_key(request.task.name, request.conditions):
            marks = {IDEMPOTENCY: key}
            record = encode_queued(
                request.job_id,
                request.task.name,
                queued_at,
                owner=request.options.get("owner"),
                queue=message.queue,
                tags=tags_of(request.options),
                arguments=arguments,
                marks=marks,
            )
            message = replace(message, record=record)
        (accepted,) = await self._writer.write([message], request.conditions)
        return accepted

    async def ping(self) -> None:
        """Nothing: the results' Redis, which is asked anyway, is the broker."""

    async def queue_counts(self, _: Iterable[str]) -> None:
        """Nothing: Redis knows it."""

    async def aclose(self) -> None:
        """Nothing: the connections are the writer's."""

    async def send_canvas(self, contents: AsyncGenerator[CanvasContent, None]) -> None:
        """Send all of it or nothing: in one step of Redis, or by a journal."""
        async with aclosing(contents), aclosing(self._steps(contents)) as steps:
            first: Step = await anext(steps, [])
            second: Step = await anext(steps, [])
            if second:
                await self._send_in_steps(first, second, steps)
            elif first:
                await self._writer.write(first)

    async def _send_in_steps(self, first: Step, second: Step, steps: AsyncIterator[Step]) -> None:
        journal = self.journals.begin()
        try:
            await self._put_aside(journal, first)
            await self._put_aside(journal, second)
            async for step in steps:
                await self._put_aside(journal, step)
            await journal.commit()
        except BaseException as error:
            if not getattr(error, "maybe_accepted", False):
                await journal.drop()
            raise
        await journal.apply()

    async def _steps(self, contents: AsyncIterator[CanvasContent]) -> AsyncGenerator[Step, None]:
        """Build the messages, as many at once as are written in one step.

        The followers' records come first: the jobs that they follow may be done at once.
        """
        step: Step = []
        async for content in contents:
            for message in chain(content.followers, map(self._builder.build, content.calls)):
                step.append(message)
                if len(step) == _MAX_STEP:
                    yield step
                    step = []
                elif len(step) % _MAX_ON_LOOP == 0:
                    await asyncio.sleep(0)
        if step:
            yield step

    async def _put_aside(self, journal: Journal, step: Step) -> None:
        arguments: list[Any] = [self._writer.keys.open_ttl]
        for message in step:
            arguments += self._writer.arguments(message)
        await journal.add(arguments)

    async def revoke(self, job_id: str) -> None:
        """Publish what Celery's `control.revoke` would: it ends the job, or bars it."""
        arguments = {"task_id": job_id, "terminate": True, "signal": "TERM"}
        await self._writer.write([self._builder.build_command("revoke", arguments)])

    async def command(self, name: str, arguments: Mapping[str, Any], worker: str) -> None:
        """Publish what Celery's `control.broadcast` would."""
        await self._writer.write([self._builder.build_command(name, arguments, [worker])])

    async def revoke_waiting(self, job_id: str, client: Redis, *, is_scheduled: bool) -> None:
        """The same for a job that waits. One that is scheduled is due at once."""
        timeout, kept = self._writer.timeout, self._writer.keys.open_ttl
        keys, queues = broker_keys(self.celery.conf), self.celery.amqp.queues
        async with bounded(timeout, BrokerUnavailableError, maybe_accepted=True):
            if is_scheduled:
                await make_due(client, keys, queues, job_id, kept=kept)
            await release(client, keys, job_id, kept=kept)
        await self.revoke(job_id)

    def _build(
        self, request: SendRequest, arguments: dict[str, Any] | None
    ) -> tuple[BuiltMessage, str]:
        """The message of a job, and when it was queued: from a template, or by Celery's code."""
        key = template_key(self.celery, request)
        template = None if key is None else self._templates.get(key)
        if template is not None and not is_observed():
            queued_at = now()
            return template.fill(request, queued_at, arguments), queued_at
        message = None
        if template is None or template.calls is None:
            call = publish_call_for(request)
        else:
            call = template.calls.call(request)
            message = template.fill_observed(call, arguments)
        message = message or self._builder.build(call, arguments)
        if key is not None and key not in self._templates:
            self._templates[key] = self._make_template(request, call)
        return message, call.queued_at

    def _make_template(self, request: SendRequest, call: PublishCall) -> MessageTemplate | None:
        """The template for jobs like the one of this call, where they can have one."""
        if not can_have_template(self.celery, request.task):
            return None
        sample = self._builder.build(call.as_made)
        return make_template(self.celery, sample, ObservedCalls.like(self.celery, call))
