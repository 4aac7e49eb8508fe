"""Publishes on brokers other than the service's Redis: by Kombu, on a few threads."""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from kombu.exceptions import OperationalError
from kombu.serialization import dumps
from msgspec.structs import replace
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.message import Accepted, BuiltMessage, SendRequest, publish_call_for
from service.redis.bounded import bounded
from service.redis.script import compare_and_set
from service.results.record import encode_queued, mark_of

logger: Final = logging.getLogger(__name__)

V = TypeVar("V")

_THREADS: Final = 4
_UNSENT: Final = "unsent"  # mark: since when it is being published, in seconds since the epoch
_LONG_AGO: Final = 1.0  # seconds since the epoch
_MAX_TIMEOUTS: Final = 3  # that publishing takes: to connect, to publish, for the confirmation
_POLL_INTERVAL: Final = 0.05  # seconds


class PublisherThreads:
    """A few threads for code that blocks. Calls beyond their number wait for a thread."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[[], V]) -> V:
        """Call the function in a thread, in a copy of the calling context.

        Raises BrokerUnavailableError when it has not returned within the timeout; if it has begun
        by then, it goes on, and keeps its thread.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="publisher")
        future = self._executor.submit(contextvars.copy_context().run, function)
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            has_begun = not future.cancelled()  # asyncio has cancelled it if it could
            raise BrokerUnavailableError(
                f"no answer within {self.timeout:g} s", maybe_accepted=has_begun
            ) from error

    def close(self) -> None:
        """Let the threads end when their calls have returned."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


class KombuPublisher:
    """Writes the record first, marked as unsent, then publishes, then removes the mark.

    The two cannot be one step. The mark holds the time at which publishing began; where that failed
    half-way it holds a time long ago, so that enqueueing the id again publishes again: the job may
    then run twice, but is never lost.
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

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call. The length of the queue is not looked at: this broker bounds its own."""
        call = publish_call_for(request)
        unsent = _checked(call)
        (accepted,) = await self._writer.write([unsent], request.conditions)
        if accepted.is_new:
            await self._publish(call, unsent)
            return accepted
        if accepted.job_id != call.job_id:  # the idempotency key has an earlier job
            call = publish_call_for(replace(request, job_id=accepted.job_id))
        if (left := await self._left_unsent(call)) is not None:
            await self._publish(call, left)
        return accepted

    async def send_canvas(
        self, calls: Sequence[PublishCall], followers: Sequence[BuiltMessage]
    ) -> None:
        """Send a canvas, one message after the other."""
        unsent = [_checked(call) for call in calls]  # raises before there are any records
        if followers:
            await self._writer.write(followers)
        for number, (call, record) in enumerate(zip(calls, unsent, strict=True)):
            try:
                await self._writer.write([record])
                await self._publish(call, record)
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(
                    error.reason, maybe_accepted=error.maybe_accepted or number > 0
                ) from error

    async def revoke(self, job_id: str) -> None:
        """Celery's own `control.revoke`."""
        await self._threads.run(lambda: self.celery.control.revoke(job_id, terminate=True))

    def close(self) -> None:
        """Drop the connections of all threads, without waiting for the broker."""
        for connection in self._connections:
            connection.collect()
        self._connections.clear()

    async def _publish(self, call: PublishCall, unsent: BuiltMessage) -> None:
        try:
            await self._threads.run(lambda: self._publish_in_thread(call))
        except BrokerUnavailableError as error:
            await self._replace(unsent, _record(call, _LONG_AGO) if error.maybe_accepted else "")
            raise
        await self._replace(unsent, _record(call))

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

    async def _left_unsent(self, call: PublishCall) -> BuiltMessage | None:
        """The job's record, if this call is to publish it now; waits while another call does."""
        give_up_at = time.monotonic() + self._timeout
        while True:
            async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
                stored = await self._client.get(self._writer.keys.record(call.job_id))
            if stored is None or (since := mark_of(stored, _UNSENT)) is None:
                return None
            if time.time() - since > _MAX_TIMEOUTS * self._timeout:
                unsent = _unsent(call)
                if await self._compare_and_set(call.job_id, stored, unsent.record):
                    return unsent
            elif time.monotonic() > give_up_at:
                raise BrokerUnavailableError("another call sends this job", maybe_accepted=True)
            await asyncio.sleep(_POLL_INTERVAL)

    def _publish_in_thread(self, call: PublishCall) -> None:
        """Publish and wait for the confirmation, on a connection of this thread's own."""
        if getattr(self._of_thread, "producer", None) is None:
            self._of_thread.producer = self._connect()
        producer = self._of_thread.producer
        try:
            options = {"timeout": self._timeout, "confirm_timeout": self._timeout}
            producer.publish(call.body, **{**call.options, **options})
        except Exception as error:
            self._of_thread.producer = None
            self._connections.remove(producer.connection)
            producer.connection.collect()
            raise BrokerUnavailableError(
                str(error) or type(error).__name__, maybe_accepted=True
            ) from error

    def _connect(self) -> Any:
        celery: Any = self.celery
        transport = {**celery.conf.broker_transport_options, "confirm_publish": True}
        connection = celery.connection_for_write(
            connect_timeout=self._timeout, transport_options=transport
        )
        try:
            connection.ensure_connection(max_retries=1, timeout=self._timeout)
        except (OperationalError, OSError) as error:
            raise BrokerUnavailableError(str(error) or type(error).__name__) from error
        self._connections.append(connection)
        return celery.amqp.Producer(connection, auto_declare=False)


def _checked(call: PublishCall) -> BuiltMessage:
    """The marked record of a new job. Raises EncodeError, as publishing it would."""
    dumps(call.body, call.options.get("serializer"))
    return _unsent(call)


def _unsent(call: PublishCall) -> BuiltMessage:
    record = _record(call, time.time()) if call.job_id else ""
    return BuiltMessage(call.job_id, call.task, "", record)


def _record(call: PublishCall, unsent_since: float | None = None) -> str:
    marks = {} if unsent_since is None else {_UNSENT: unsent_since}
    return encode_queued(call.job_id, call.task, call.queued_at, marks=marks)
