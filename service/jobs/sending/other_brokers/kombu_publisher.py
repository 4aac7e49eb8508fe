"""Publishes on brokers other than Redis and RabbitMQ: by Kombu, on a few threads."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import Any, Final

from kombu.serialization import dumps
from msgspec.structs import replace
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.celery.settings import TRANSPORTS
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import CanvasContent
from service.jobs.sending.message import (
    Accepted,
    BuiltMessage,
    Conditions,
    SendRequest,
    publish_call_for,
)
from service.jobs.sending.other_brokers.begun_calls import BegunCalls
from service.jobs.sending.other_brokers.publisher_threads import PublisherThreads
from service.jobs.sending.other_brokers.thread_connections import ThreadConnections
from service.jobs.sending.other_brokers.unsent import (
    UNSENT,
    RecordChanges,
    copy_of,
    doubtful_record,
    new_record,
    sent_record,
    unsent_record,
)
from service.rabbitmq.connection import QueueCounts
from service.redis.bounded import bounded
from service.redis.cancelled import make_due, release
from service.redis.keys import broker_keys
from service.results.marks import IDEMPOTENCY, mark_of

logger: Final = logging.getLogger(__name__)

_MAX_STEP: Final = 100  # records that are written in one step of Redis
_MAX_TIMEOUTS: Final = 3  # that publishing takes: to connect, to publish, for the confirmation
_POLL_INTERVAL: Final = 0.05  # seconds


class KombuPublisher:
    """Writes the record first, then publishes: the two cannot be one step.

    A job may be enqueued again where its caller knows its id, or an idempotency key. The record of
    such a job is marked as unsent until it is published. The mark holds the time at which
    publishing began; where that failed half-way it holds a time long ago, so that enqueueing the id
    again publishes again, and the job is never lost. The second message is marked as a copy, which
    RabbitMQ's workers tell from the first.
    """

    server = "The broker"  # as errors name it
    at_once = 1  # messages of a canvas that are published at once

    def __init__(
        self, celery: QuartCelery, writer: BatchWriter, client: Redis, threads: PublisherThreads
    ) -> None:
        self.celery = celery
        self.threads = threads
        self.timeout = threads.timeout
        self._writer = writer
        self.client = client
        self._changes = RecordChanges(client, timeout=self.timeout)
        self.kombu = ThreadConnections(celery, self.server, self.timeout)
        self._begun = BegunCalls()
        threads.server = self.server

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call, also if its caller is cancelled meanwhile."""
        self.check()
        call = self.call_for(request)
        self.check_body(call)
        return await self._begun.finish(self._send(request, call))

    async def _send(self, request: SendRequest, call: PublishCall) -> Accepted:
        key = self._writer.idempotency_key(call.task, request.conditions)
        with await self.room_for(call, request.conditions, key):
            may_come_again = bool(key) or request.options.get("job_id") is not None
            record = unsent_record(call, key) if may_come_again else new_record(call)
            (accepted,) = await self._writer.write([record], request.conditions)
            if accepted.is_new or not may_come_again:
                await self._publish(call, record)
                return accepted if accepted.is_new else replace(accepted, is_new=True)
        if accepted.job_id != call.job_id:  # the idempotency key has an earlier job
            call = self.call_for(replace(request, job_id=accepted.job_id))
        if (left := await self._left_unsent(call)) is not None:
            await self._publish(*left)
        return accepted

    async def send_canvas(self, contents: AsyncGenerator[CanvasContent, None]) -> None:
        """Send a canvas, a few messages at once: this broker knows no step with several."""
        self.check()
        await self._begun.finish(self._send_canvas(contents))

    async def _send_canvas(self, contents: AsyncGenerator[CanvasContent, None]) -> None:
        is_begun, followers = False, list[BuiltMessage]()
        try:
            async with aclosing(contents):
                async for content in contents:
                    # Raises before there are any records of these.
                    unsent = await asyncio.to_thread(self._unsent_records, content.calls)
                    followers += () if is_begun else content.followers
                    for start in range(0, len(content.followers), _MAX_STEP):
                        await self._writer.write(content.followers[start : start + _MAX_STEP])
                    pairs = [*zip(content.calls, unsent, strict=True)]
                    for start in range(0, len(pairs), self.at_once):
                        part = pairs[start : start + self.at_once]
                        await self._writer.write([record for _, record in part])
                        await self._publish_all(part)
                        is_begun = True
        except BrokerUnavailableError as error:
            if not (error.maybe_accepted or is_begun):  # nothing will ever send them
                await asyncio.gather(*(self._replace(each, "") for each in followers))
            raise BrokerUnavailableError(
                error.reason,
                maybe_accepted=error.maybe_accepted or is_begun,
                server=error.server,
            ) from error

    async def command(self, name: str, arguments: Mapping[str, Any], worker: str) -> None:
        """Celery's own `control.broadcast`."""
        self.check()
        send = partial(self.celery.control.broadcast, name, dict(arguments), [worker])
        await self.threads.run(send)

    async def revoke(self, job_id: str) -> None:
        """Celery's own `control.revoke`."""
        self.check()
        await self.threads.run(lambda: self.celery.control.revoke(job_id, terminate=True))

    async def revoke_waiting(self, job_id: str, client: Redis, *, is_scheduled: bool) -> None:
        """The same; one that is scheduled on a Redis of the broker's own is due at once.

        Elsewhere it waits in a worker, which ends it then.
        """
        conf = self.celery.conf
        if conf.broker_transport in TRANSPORTS.values():  # else it waits in a worker
            keys, kept = broker_keys(conf), self._writer.keys.open_ttl
            async with bounded(self.timeout, BrokerUnavailableError, maybe_accepted=True):
                if is_scheduled:
                    await make_due(client, keys, self.celery.amqp.queues, job_id, kept=kept)
                await release(client, keys, job_id, kept=kept)
        await self.revoke(job_id)

    async def ping(self) -> None:
        """Have the broker answer. Raises BrokerUnavailableError."""
        await self.threads.run(lambda: self.kombu.connect().release())

    async def aclose(self) -> None:
        """Drop all connections; what was begun is given its time before."""
        await self._begun.aclose(timeout=self.timeout)
        self.kombu.drop()
        await self._changes.aclose()

    async def queue_counts(self, _: Iterable[str]) -> Mapping[str, QueueCounts] | None:
        """Nothing is known of queues, unless they are a Redis's."""
        return None if str(self.celery.conf.broker_url).partition(":")[0] in TRANSPORTS else {}

    def check(self) -> None:
        """Raise BrokerUnavailableError, and at once, where it is known that the broker is away."""

    def call_for(self, request: SendRequest) -> PublishCall:
        """The call that publishes a job."""
        return publish_call_for(request)

    def check_body(self, call: PublishCall) -> None:
        """Raise EncodeError, as publishing it would."""
        dumps(call.body, call.options.get("serializer"))

    async def room_for(
        self, call: PublishCall, conditions: Conditions, key: str
    ) -> AbstractContextManager[object]:
        """What the job is sent in, as it takes up room in its queue; `key` is that of idempotency.

        Raises QueueFullError where the conditions say so.
        """
        return nullcontext()

    async def transmit(self, call: PublishCall) -> None:
        """Have the broker take the message. Raises BrokerUnavailableError."""
        await self.threads.run(lambda: self.kombu.publish(call))

    def unavailable(
        self, error: Exception | str, *, maybe_accepted: bool = False
    ) -> BrokerUnavailableError:
        """The error to raise for one of the broker's."""
        reason = str(error) or type(error).__name__
        return BrokerUnavailableError(reason, maybe_accepted=maybe_accepted, server=self.server)

    async def _publish_all(self, part: Sequence[tuple[PublishCall, BuiltMessage]]) -> None:
        publishes = (self._publish(call, record) for call, record in part)
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in errors:
            if isinstance(error, BrokerUnavailableError) and len(errors) < len(part):
                raise self.unavailable(error.reason, maybe_accepted=True)
            raise error

    async def _publish(self, call: PublishCall, unsent: BuiltMessage) -> None:
        try:
            await self.transmit(call)
        except (BrokerUnavailableError, asyncio.CancelledError) as error:  # the process ends
            maybe_accepted = getattr(error, "maybe_accepted", True)
            await self._replace(unsent, doubtful_record(unsent) if maybe_accepted else "")
            raise
        await self._replace(unsent, sent_record(unsent))

    async def _replace(self, unsent: BuiltMessage, record: str) -> None:
        if record == unsent.record:
            return  # it has no mark, or is none: an event of Celery's own is not a job
        try:
            await self._change(unsent.job_id, unsent.record, record)
        except BrokerUnavailableError as error:
            logger.warning("The record of job %s still says unsent: %s", unsent.job_id, error)

    async def _change(self, job_id: str, before: str | bytes, after: str) -> bool:
        return await self._changes.change(self._writer.keys.record(job_id), before, after)

    async def _left_unsent(self, call: PublishCall) -> tuple[PublishCall, BuiltMessage] | None:
        """The call and the job's record, if it is to be published now; waits while another call is.

        The call says when the job was queued first, so that two messages of it are known as one.
        """
        give_up_at = time.monotonic() + self.timeout
        while True:
            async with bounded(self.timeout, BrokerUnavailableError, maybe_accepted=True):
                stored = await self.client.get(self._writer.keys.record(call.job_id))
            if stored is None or (since := mark_of(stored, UNSENT)) is None:
                return None
            if time.time() - since > _MAX_TIMEOUTS * self.timeout:
                call = copy_of(call, str(mark_of(stored, "queued_at")))
                unsent = unsent_record(call, mark_of(stored, IDEMPOTENCY))
                if await self._change(call.job_id, stored, unsent.record):
                    return call, unsent
            elif time.monotonic() > give_up_at:
                raise self.unavailable("another call sends this job", maybe_accepted=True)
            await asyncio.sleep(_POLL_INTERVAL)

    def _unsent_records(self, calls: Sequence[PublishCall]) -> list[BuiltMessage]:
        for call in calls:
            self.check_body(call)
        return [*map(unsent_record, calls)]
