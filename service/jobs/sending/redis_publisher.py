"""What the Enqueuer needs of a broker, and how Redis gives it: natively, on the event loop."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from kombu.utils.uuid import uuid

from service.errors import BrokerUnavailableError, QueueFullError
from service.jobs.celery.capture import Letter, collecting
from service.jobs.options import Call
from service.jobs.sending.batch import FREELY, BatchWriter, Terms
from service.jobs.sending.message import Envelope, Sealer, queued_envelope
from service.jobs.sending.message_template import Template, can_have_template, cut, is_observed
from service.jobs.sending.shown_arguments import shown_arguments
from service.results.record import now

_TOGETHER: Final = 100  # jobs of one canvas written in one step

_FEW: Final = 10  # letters that can be sealed without the event loop being missed


class Broker(Protocol):
    """Takes jobs over: none is lost once it is taken, and none blocks the event loop."""

    async def send(self, call: Call, terms: Terms = FREELY) -> str:
        """Send one call; the id that it has, or for a known idempotency key its first value.

        Raises kombu's EncodeError where no JSON can be made of the arguments.
        """

    async def send_letters(
        self, letters: Sequence[Letter], followers: Mapping[str, str | None]
    ) -> None:
        """Send a canvas: its first messages, and records of those (by id) that follow them.

        Raises kombu's EncodeError as `send` does.
        """

    async def revoke(self, job_id: str) -> None:
        """Tell every worker to end the job, or not to begin it."""

    async def aclose(self) -> None:
        """Let go of what it holds."""


class RedisBroker:
    """Writes Celery's own messages to Redis, in batches."""

    def __init__(self, celery: Any, writer: BatchWriter) -> None:
        self._celery = celery
        self._writer = writer
        self._sealer = Sealer(celery)
        self._known_lists: dict[tuple[tuple[str, str], ...], list[str]] = {}
        self._templates: dict[tuple[str, str | None, int | None], Template | None] = {}

    async def send(self, call: Call, terms: Terms = FREELY) -> str:
        """Send one call, from a template where its task has one."""
        job_id = call.options.job_id or uuid()
        envelope = _with_arguments(self._envelope(call, job_id), call)
        if terms.limit:
            lists = self._lists(envelope)
            terms = Terms(terms.once, terms.fingerprint, terms.limit, lists)
        (answer,) = await self._writer.write([envelope], terms)
        if answer == "full":
            raise QueueFullError(call.task.name, terms.limit)
        return job_id if answer in ("new", "known") else answer

    async def send_letters(
        self, letters: Sequence[Letter], followers: Mapping[str, str | None]
    ) -> None:
        """Write the records of what follows first: what it follows may be done at once."""
        moment = now()
        envelopes = [queued_envelope(job_id, task, moment) for job_id, task in followers.items()]
        if len(letters) <= _FEW:
            envelopes += [self._sealer.seal(letter) for letter in letters]
        else:
            envelopes += await asyncio.to_thread(lambda: [*map(self._sealer.seal, letters)])
        for start in range(0, len(envelopes), _TOGETHER):
            try:
                await self._writer.write(envelopes[start : start + _TOGETHER])
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(
                    error.reason, maybe_accepted=error.maybe_accepted or start > 0
                ) from error

    async def revoke(self, job_id: str) -> None:
        """Publish what Celery's `control.revoke` would."""
        await self._writer.write([self._sealer.seal_revoke(self._celery, job_id)])

    async def aclose(self) -> None:
        """Nothing: the writer is the Enqueuer's."""

    def _envelope(self, call: Call, job_id: str) -> Envelope:
        options = call.options
        if not options.plain or is_observed(self._celery):
            return self._sealer.seal(letter_of(call, job_id))
        key = (call.task.name, options.queue, options.priority)
        if key not in self._templates:
            self._templates[key] = self._cut(call)
        template = self._templates[key]
        if template is None:
            return self._sealer.seal(letter_of(call, job_id))
        return template.fill(job_id, call.args, call.kwargs, now())

    def _cut(self, call: Call) -> Template | None:
        if not can_have_template(self._celery, call.task):
            return None
        sample = self._sealer.seal(letter_of(call, uuid()))
        return cut(self._celery, sample)

    def _lists(self, envelope: Envelope) -> list[str]:
        found = self._known_lists.get(envelope.destinations)
        if found is None:
            keys = [key for command, key in envelope.destinations if command == "LPUSH"]
            found = [name for key in keys for name in self._sealer.lists(key)]
            self._known_lists[envelope.destinations] = found
        return found


def letter_of(call: Call, job_id: str) -> Letter:
    """The message of one call, by Celery's own `apply_async`."""
    with collecting() as letters:
        options = call.options.as_celery()
        call.task.apply_async(call.args, dict(call.kwargs), task_id=job_id, **options)
    return next(letter for letter in letters if letter.job_id == job_id)


def _with_arguments(envelope: Envelope, call: Call) -> Envelope:
    """The same, whose record has the arguments, where the task allows showing them."""
    shown = shown_arguments(call.task, call.args, call.kwargs)
    if shown is None or not envelope.record:
        return envelope
    record = f'{envelope.record[:-1]}, "arguments": {json.dumps(shown)}}}'
    return replace(envelope, record=record)
