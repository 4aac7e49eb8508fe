"""Publishes on RabbitMQ: on the event loop, many messages at once, each confirmed."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from kombu.exceptions import EncodeError
from kombu.transport import pyamqp
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError, QueueFullError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.celery.connections import CONNECT_SHARE
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.message import Conditions, SendRequest
from service.jobs.sending.other_brokers.call_template import CallTemplates, ReadyCall
from service.jobs.sending.other_brokers.declared_queues import DeclaredQueues
from service.jobs.sending.other_brokers.kombu_publisher import KombuPublisher
from service.jobs.sending.other_brokers.publisher_threads import PublisherThreads
from service.jobs.sending.other_brokers.tries import SERVER, PublishedMessage, TryingPublisher
from service.jobs.sending.other_brokers.unsent import copy_of
from service.rabbitmq.client import RabbitClient
from service.rabbitmq.connection import QueueCounts
from service.rabbitmq.frames import OpenedSocket
from service.rabbitmq.publishing import ConnectionLostError, Publication
from service.rabbitmq.recent_counts import RecentCounts
from service.redis.bounded import bounded
from service.redis.deadline import Deadline

_BEHIND: Final = 0.2  # of the timeout: how long RabbitMQ may take less than is sent to it
_HEARTBEAT: Final = 10  # seconds, at most


def is_rabbitmq(celery: Any) -> bool:
    """Whether the broker speaks AMQP."""
    transport: Any = celery.connection_for_write().get_transport_cls()
    return issubclass(transport, pyamqp.Transport)


class _Encoder:
    """Stands where Kombu's producer expects a channel: gives the message, and publishes nothing."""

    prepare_message = pyamqp.Channel.prepare_message

    def basic_publish(
        self, message: Any, *, exchange: str, routing_key: str, mandatory: bool, **_: Any
    ) -> Publication:
        return Publication(message, exchange, routing_key, mandatory)


def _producer(celery: Any) -> Any:
    return celery.amqp.Producer(_Encoder(), auto_declare=False)


class RabbitMQPublisher(KombuPublisher):
    """Publishes on one connection, by the messages that Kombu's own producer makes.

    A job that no queue takes comes back; it is published once more, and its queue declared anew
    before. One that its queue does not take, as while a leader is elected, is published again on a
    new channel, after a pause, until the deadline. What was on its way when a connection was lost
    is published on the next one, within the deadline.
    """

    server = SERVER
    at_once = 100

    def __init__(
        self, celery: QuartCelery, writer: BatchWriter, client: Redis, threads: PublisherThreads
    ) -> None:
        super().__init__(celery, writer, client, threads)
        self._rabbit = RabbitClient(self._open_socket)
        self._counts = RecentCounts(self._rabbit)
        self._producer = _producer(celery)
        self._templates = CallTemplates(celery, self._encode)
        self._declared = DeclaredQueues(threads, self._declare_in_thread, self._counts.is_absent)
        self._tries = TryingPublisher(self._rabbit, self._declared, self.timeout)

    def begin(self) -> None:
        """Connect in the background."""
        self._rabbit.begin()

    async def ping(self) -> None:
        try:
            async with Deadline(self.timeout):
                await (await self._rabbit.connection()).ping()
        except (ConnectionLostError, TimeoutError) as error:
            raise self.unavailable(error) from error

    async def aclose(self) -> None:
        await self._begun.aclose(timeout=self.timeout)
        self._tries.close()
        self._declared.clear()
        await self._counts.aclose()
        await self._rabbit.aclose()
        await super().aclose()

    def check(self) -> None:
        try:
            self._rabbit.check(patience=_BEHIND * self.timeout)
        except ConnectionLostError as error:
            raise self.unavailable(error) from error

    def call_for(self, request: SendRequest) -> PublishCall:
        return self._templates.call_for(request)

    async def queue_counts(self, queues: Iterable[str]) -> dict[str, QueueCounts]:
        return await self._counts.of_all(queues)

    async def room_for(
        self, call: PublishCall, conditions: Conditions, key: str
    ) -> AbstractContextManager[object]:
        if not conditions.limit:
            return nullcontext()
        counts = await self._counts.of(queue := _queue_of(call))
        if counts is None or counts.ready < conditions.limit:
            return self._counts.sending(queue)
        async with bounded(self.timeout, BrokerUnavailableError):
            has_job = bool(key) and await self.client.exists(key)
        if not has_job:
            raise QueueFullError(call.task, conditions.limit)
        return nullcontext()

    def check_body(self, call: PublishCall) -> None:
        if not isinstance(call, ReadyCall):  # else it is encoded
            try:
                self._encode(call).check()
            except EncodeError:
                raise
            except Exception as error:
                raise EncodeError(f"AMQP cannot encode the message: {error}") from error

    async def transmit(self, call: PublishCall) -> None:
        publication = call.publication if isinstance(call, ReadyCall) else self._encode(call)
        queues, is_scheduled = call.options.get("declare") or (), call.due_at is not None
        message = PublishedMessage(publication, queues, lambda: self._encode(copy_of(call)))
        await self._tries.publish(message, is_scheduled=is_scheduled)
        if not is_scheduled:
            self._counts.note_sent(_queue_of(call))

    def _encode(self, call: PublishCall) -> Publication:
        options = {**call.options, "declare": None, "mandatory": bool(call.job_id)}
        publication: Publication = self._producer.publish(call.body, **options)
        return publication

    def _declare_in_thread(self, queue: Any) -> None:
        connection = self.kombu.connect()
        try:
            queue(connection.default_channel).declare()
        except (*connection.channel_errors, *connection.connection_errors) as error:
            raise self.unavailable(error) from error
        finally:
            connection.release()
        self._counts.forget(queue.name)

    def _open_socket(self, given_up: int) -> OpenedSocket:
        celery: Any = self.celery
        heartbeat = min(celery.conf.broker_heartbeat or 0, _HEARTBEAT)
        connection = celery.connection_for_write(
            connect_timeout=CONNECT_SHARE * self.timeout, heartbeat=heartbeat
        )
        for _ in range(given_up % max(len(connection.alt), 1)):
            connection.maybe_switch_next()
        return OpenedSocket.open(connection)


def _queue_of(call: PublishCall) -> str:
    """The name of the queue that a job goes to."""
    queues = call.options.get("declare") or ()
    return str(queues[0].name) if queues else call.queue
