"""Writes a job as the message that Celery's workers read, and as the record of its being queued."""

import threading
from dataclasses import dataclass
from typing import Any

from kombu import Connection
from kombu.transport import virtual
from kombu.transport.redis import Channel as RedisChannel
from kombu.utils.json import dumps

from service.jobs.celery.capture import Letter
from service.results.record import encode_queued


@dataclass(frozen=True, slots=True)
class Envelope:
    """A job ready to be written to Redis.

    `destinations` are Redis commands with their keys: LPUSH of a queue's list, PUBLISH for a
    broadcast. None at all: only the record is to be written.
    """

    job_id: str
    message: str
    record: str
    destinations: tuple[tuple[str, str], ...]


def queued_envelope(job_id: str, task: str | None, queued_at: str) -> Envelope:
    """A record alone, of a job that another one will send."""
    record = encode_queued(job_id, task, queued_at)
    return Envelope(job_id=job_id, message="", record=record, destinations=())


class _Channel(virtual.Channel):
    """Kombu's Redis channel as far as it decides what is written where; it writes nothing."""

    supports_fanout = True
    sep = RedisChannel.sep
    priority_steps = RedisChannel.priority_steps
    global_keyprefix = RedisChannel.global_keyprefix
    fanout_prefix = RedisChannel.fanout_prefix
    fanout_patterns = RedisChannel.fanout_patterns
    keyprefix_fanout = RedisChannel.keyprefix_fanout
    from_transport_options = (
        *virtual.Channel.from_transport_options,
        *("sep", "priority_steps", "global_keyprefix", "fanout_prefix", "fanout_patterns"),
    )
    priority = RedisChannel.priority
    list_for = getattr(RedisChannel, "_q_for_pri")  # noqa: B009  there is no public name for it
    topic_for = getattr(RedisChannel, "_get_publish_topic")  # noqa: B009

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self.written: list[tuple[str, str, str]] = []
        if not self.fanout_prefix:
            self.keyprefix_fanout = ""
        elif isinstance(self.fanout_prefix, str):
            self.keyprefix_fanout = self.fanout_prefix
        database = connection.client.virtual_host or "0"
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=database.strip("/") or "0")

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        key = self.list_for(queue, self._get_message_priority(message, reverse=False))
        self.written.append(("LPUSH", self.global_keyprefix + key, dumps(message)))

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **_: Any) -> None:
        topic = self.topic_for(exchange, routing_key)
        self.written.append(("PUBLISH", self.global_keyprefix + topic, dumps(message)))

    def _new_queue(self, queue: str, **_: Any) -> None:
        pass

    def _queue_bind(self, *_: Any) -> None:
        pass

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True


class _Transport(virtual.Transport):
    Channel = _Channel
    driver_type = "redis"  # Kombu and Celery choose some exchange types by it

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = virtual.BrokerState()  # Kombu's own is one for all apps of the process


class Sealer:
    """Makes envelopes of letters the way that Kombu's Redis transport would."""

    def __init__(self, celery: Any) -> None:
        broker = celery.connection_for_write()
        connection = Connection(
            transport=_Transport,
            virtual_host=broker.virtual_host,
            transport_options=celery.conf.broker_transport_options,
        )
        self._channel: Any = connection.channel()
        self._producer = celery.amqp.Producer(self._channel, auto_declare=False)
        self._sealing = threading.Lock()
        for queue in celery.amqp.queues.values():
            queue(self._channel).declare()  # a topic exchange knows where to only by its bindings

    def seal(self, letter: Letter) -> Envelope:
        """The envelope of a letter. Raises kombu's EncodeError where its body is not JSON."""
        written = self._publish(letter.body, letter.options)
        record = encode_queued(letter.job_id, letter.task, letter.queued_at)
        return Envelope(
            job_id=letter.job_id,
            message=written[0][2] if written else "",
            record=record if letter.job_id else "",
            destinations=tuple((command, key) for command, key, _ in written),
        )

    def lists(self, key: str) -> list[str]:
        """The Redis lists, one for each priority, of the queue that has this one."""
        channel = self._channel
        queue = key.removeprefix(channel.global_keyprefix).split(channel.sep, 1)[0]
        return [
            channel.global_keyprefix + channel.list_for(queue, p) for p in channel.priority_steps
        ]

    def seal_revoke(self, celery: Any, job_id: str) -> Envelope:
        """Celery's control message that has whoever runs the job end it, and others not begin."""
        mailbox = type(celery.control.mailbox)(
            celery.conf.control_exchange,
            type="fanout",
            connection=self._channel.connection.client,
            accept=celery.conf.accept_content,
            serializer=celery.conf.task_serializer,
            clock=celery.clock,
        )
        arguments = {"task_id": job_id, "terminate": True, "signal": "TERM"}
        with self._sealing:
            self._channel.written.clear()
            mailbox._broadcast("revoke", arguments, channel=self._channel)  # noqa: SLF001
            ((command, key, message),) = self._channel.written
        return Envelope(job_id="", message=message, record="", destinations=((command, key),))

    def _publish(self, body: Any, options: dict[str, Any]) -> list[tuple[str, str, str]]:
        with self._sealing:
            self._channel.written.clear()
            self._producer.publish(body, **options)
            return list(self._channel.written)
