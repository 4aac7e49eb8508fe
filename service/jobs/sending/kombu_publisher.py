"""Publishes on brokers other than the service's Redis: by Kombu, on a few threads."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

from amqp.exceptions import ChannelError, MessageNacked
from kombu.exceptions import OperationalError
from kombu.serialization import dumps
from msgspec.structs import replace
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.celery.connections import make_due
from service.jobs.celery.publisher_threads import PublisherThreads
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import CanvasContent
from service.jobs.sending.message import (
    Accepted,
    BuiltMessage,
    SendRequest,
    publish_call_for,
    queued_record,
)
from service.redis.bounded import bounded
from service.redis.script import compare_and_set
from service.results.marks import IDEMPOTENCY, mark_of

logger: Final = logging.getLogger(__name__)

_MAX_STEP: Final = 100  # records that are written in one step of Redis
_UNSENT: Final = "unsent"  # mark: since when it is being published, in seconds since the epoch
_LONG_AGO: Final = 1.0  # seconds since the epoch
_MAX_TIMEOUTS: Final = 3  # that publishing takes: to connect, to publish, for the confirmation
_POLL_INTERVAL: Final = 0.05  # seconds
_AMQP: Final = ("amqp:", "amqps:", "pyamqp:")


class KombuPublisher:
    """Writes the record first, marked as unsent, then publishes, then removes the mark.

    The two cannot be one step. The mark holds the time at which publishing began; where that failed
    half-way it holds a time long ago, so that enqueueing the id again publishes again: two workers
    may then run the job at the same time, but it is never lost.
    """

    def __init__(
        self, celery: QuartCelery, writer: BatchWriter, client: Redis, threads: PublisherThreads
    ) -> None:
        self.celery = celery
        self._writer = writer
        self._client = client
        self._threads = threads
        self._timeout = threads.timeout
        self._of_thread = threading.local()
        self._connections: list[Any] = []
        self._is_amqp = str(celery.conf.broker_url).startswith(_AMQP)
        if self._is_amqp:
            threads.server = "RabbitMQ"

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call. The length of the queue is not looked at: this broker bounds its own."""
        call = publish_call_for(request)
        key = self._writer.idempotency_key(call.task, request.conditions)
        unsent = _checked(call, key)
        (accepted,) = await self._writer.write([unsent], request.conditions)
        if accepted.is_new:
            await self._publish(call, unsent)
            return accepted
        if accepted.job_id != call.job_id:  # the idempotency key has an earlier job
            call = publish_call_for(replace(request, job_id=accepted.job_id))
        if (left := await self._left_unsent(call)) is not None:
            await self._publish(*left)
        return accepted

    async def send_canvas(self, contents: AsyncIterator[CanvasContent]) -> None:
        """Send a canvas, one message after the other: this broker knows no step with several."""
        is_begun = False
        try:
            async for content in contents:
                # Raises before there are any records of these.
                unsent = await asyncio.to_thread(lambda: [*map(_checked, content.calls)])  # noqa: B023
                for start in range(0, len(content.followers), _MAX_STEP):
                    await self._writer.write(content.followers[start : start + _MAX_STEP])
                for call, record in zip(content.calls, unsent, strict=True):
                    await self._writer.write([record])
                    await self._publish(call, record)
                    is_begun = True
        except BrokerUnavailableError as error:
            raise BrokerUnavailableError(
                error.reason, maybe_accepted=error.maybe_accepted or is_begun
            ) from error

    async def command(self, name: str, arguments: Mapping[str, Any], worker: str) -> None:
        """Celery's own `control.broadcast`."""
        send = partial(self.celery.control.broadcast, name, dict(arguments), [worker])
        await self._threads.run(send)

    async def revoke(self, job_id: str) -> None:
        """Celery's own `control.revoke`."""
        await self._threads.run(lambda: self.celery.control.revoke(job_id, terminate=True))

    async def revoke_waiting(self, job_id: str, client: Redis) -> None:
        """The same; one that is scheduled on a Redis of the broker's own is due at once.

        Elsewhere it waits in a worker, which ends it then.
        """
        async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
            await make_due(self.celery, client, job_id, kept=self._writer.keys.ttl)
        await self.revoke(job_id)

    def close(self) -> None:
        """Drop the connections of all threads, without waiting for the broker."""
        for connection in self._connections:
            connection.collect()
        self._connections.clear()

    async def _publish(self, call: PublishCall, unsent: BuiltMessage) -> None:
        key = mark_of(unsent.record, IDEMPOTENCY)
        try:
            await self._threads.run(lambda: self._publish_in_thread(call))
        except BrokerUnavailableError as error:
            record = _record(call, key, _LONG_AGO) if error.maybe_accepted else ""
            await self._replace(unsent, record)
            raise
        await self._replace(unsent, _record(call, key))

    async def _replace(self, unsent: BuiltMessage, record: str) -> None:
        if not unsent.record:
            return  # an event of Celery's own, not a job
        try:
            await self._compare_and_set(unsent.job_id, unsent.record, record)
        except BrokerUnavailableError as error:
            logger.warning("The record of job %s still says unsent: %s", unsent.job_id, error)

    async def _compare_and_set(self, job_id: str, before: str | bytes, after: str) -> bool:
        async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
            key = self._writer.keys.record(job_id)
            return await compare_and_set(self._client, key, before, after)

    async def _left_unsent(self, call: PublishCall) -> tuple[PublishCall, BuiltMessage] | None:
        """The call and the job's record, if it is to be published now; waits while another call is.

        The call says when the job was queued first, so that two messages of it are known as one.
        """
        give_up_at = time.monotonic() + self._timeout
        while True:
            async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
                stored = await self._client.get(self._writer.keys.record(call.job_id))
            if stored is None or (since := mark_of(stored, _UNSENT)) is None:
                return None
            if time.time() - since > _MAX_TIMEOUTS * self._timeout:
                call = _queued_at(call, str(mark_of(stored, "queued_at")))
                unsent = _unsent(call, mark_of(stored, IDEMPOTENCY))
                if await self._compare_and_set(call.job_id, stored, unsent.record):
                    return call, unsent
            elif time.monotonic() > give_up_at:
                raise BrokerUnavailableError("another call sends this job", maybe_accepted=True)
            await asyncio.sleep(_POLL_INTERVAL)

    def _publish_in_thread(self, call: PublishCall) -> None:
        """Publish and wait for the confirmation, on a connection of this thread's own.

        RabbitMQ gives back a job that no queue takes, and drops one that a queue cannot take just
        now. Both are tried once more on a new connection, which declares the queue anew.
        """
        options = {**call.options, "timeout": self._timeout, "confirm_timeout": self._timeout}
        if self._is_amqp and call.job_id:
            options["mandatory"] = True
        try:
            try:
                self._publish_once(call.body, options)
            except (ChannelError, MessageNacked):
                self._publish_once(call.body, options)
        except (ChannelError, MessageNacked) as error:
            raise self._unavailable(error) from error
        except BrokerUnavailableError:
            raise
        except Exception as error:
            raise self._unavailable(error, maybe_accepted=True) from error

    def _publish_once(self, body: Any, options: Mapping[str, Any]) -> None:
        if getattr(self._of_thread, "producer", None) is None:
            self._of_thread.producer = self._connect()
        producer = self._of_thread.producer
        try:
            producer.publish(body, **options)
        except Exception:
            self._of_thread.producer = None
            self._connections.remove(producer.connection)
            producer.connection.collect()
            raise

    def _connect(self) -> Any:
        celery: Any = self.celery
        transport = {**celery.conf.broker_transport_options, "confirm_publish": True}
        connection = celery.connection_for_write(
            connect_timeout=self._timeout, transport_options=transport
        )
        try:
            connection.ensure_connection(max_retries=1, timeout=self._timeout)
        except (OperationalError, OSError) as error:
            raise self._unavailable(error) from error
        self._connections.append(connection)
        return celery.amqp.Producer(connection, auto_declare=False)

    def _unavailable(
        self, error: Exception, *, maybe_accepted: bool = False
    ) -> BrokerUnavailableError:
        reason, server = str(error) or type(error).__name__, self._threads.server
        return BrokerUnavailableError(reason, maybe_accepted=maybe_accepted, server=server)


def _checked(call: PublishCall, idempotency_key: str = "") -> BuiltMessage:
    """The marked record of a new job. Raises EncodeError, as publishing it would."""
    dumps(call.body, call.options.get("serializer"))
    return _unsent(call, idempotency_key)


def _unsent(call: PublishCall, idempotency_key: str | None) -> BuiltMessage:
    record = _record(call, idempotency_key, time.time()) if call.job_id else ""
    return BuiltMessage(call.job_id, call.task, "", record, queue=call.queue)


def _record(
    call: PublishCall, idempotency_key: str | None, unsent_since: float | None = None
) -> str:
    marks = {IDEMPOTENCY: idempotency_key or None, _UNSENT: unsent_since}
    marks = {name: value for name, value in marks.items() if value is not None}
    return queued_record(call, marks=marks)


def _queued_at(call: PublishCall, moment: str) -> PublishCall:
    headers = {**call.options["headers"], "queued_at": moment}
    options = {**call.options, "headers": headers}
    return PublishCall(call.job_id, call.task, moment, call.body, options)
