"""What is asked to be sent, and its message, built as Kombu's Redis transport would."""

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kombu import Connection
from kombu.transport import virtual
from kombu.transport.redis import Channel as RedisChannel
from kombu.utils.json import dumps
from msgspec import Struct

from service.jobs.arguments import NO_OPTIONS, SendOptions
from service.jobs.celery.capture import PublishCall, capture_publishes
from service.redis.countdown import without_countdown
from service.results.record import encode_queued


class CallerShare(NamedTuple):
    """What the caller that starts a job may have, as enqueue.lua takes it; 0 is for no limit.

    A start comes back every `step` seconds; at once the caller may have as many starts as come back
    in `seconds`. What it has had is kept for `ttl` seconds.
    """

    had_key: str
    open_key: str
    step: float
    seconds: int
    open_jobs: int
    open_bytes: int
    ttl: int


class Conditions(Struct, frozen=True):
    """What must hold for a job to be accepted.

    The `idempotency_key` of the `owner` and the task must have no job yet; `fingerprint` tells what
    it stands for. Fewer than `limit` jobs, with `max_bytes` at most, may wait in the queue (0: any
    number), and the records of ended jobs must have fewer than `max_held` bytes. The job must be
    within the `share` of its caller.
    """

    idempotency_key: str = ""
    owner: str | None = None
    fingerprint: str = ""
    limit: int = 0
    max_bytes: int = 0
    max_held: int = 0
    share: CallerShare | None = None


UNCONDITIONAL: Final = Conditions()


class SendRequest(Struct, frozen=True):
    """One call of a task; `task` is Celery's object."""

    task: Any
    job_id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: SendOptions = NO_OPTIONS
    conditions: Conditions = UNCONDITIONAL


class Accepted(Struct, frozen=True):
    """A job that was accepted: by this call if `is_new`, else before.

    `fingerprint` is the one that was given before, if the idempotency key had this job already.
    `debt` is the seconds until the caller has all its starts again; None if they are not limited.
    `queue` is where a new one waits.
    """

    job_id: str
    is_new: bool = True
    fingerprint: str = ""
    debt: float | None = None
    queue: str = ""


class Destination(NamedTuple):
    """Where a message is written: by LPUSH to a queue's list, by PUBLISH to a broadcast's channel.

    The seconds until a scheduled job is due stand for an LPUSH that says in the message when it is.
    `lists` are all lists of the queue, in which the jobs before this one may wait.
    """

    command: str
    key: str
    lists: tuple[str, ...] = ()


class BuiltMessage(Struct, frozen=True):
    """A job ready to be written to Redis; without destinations, only its record is written.

    `job_id` and `record` are empty for a message that is not a job; `queue` is that of the record.
    """

    job_id: str
    task: str | None
    message: str
    record: str
    destinations: tuple[Destination, ...] = ()
    queue: str = ""


def publish_call_for(request: SendRequest) -> PublishCall:
    """The call that publishes a job, by Celery's `apply_async`; receivers may name the job."""
    # Without the options that Celery has not, or names otherwise.
    options = {k: v for k, v in request.options.items() if k not in ("job_id", "owner")}
    with capture_publishes(request.options.get("owner")) as capture:
        request.task.apply_async(
            request.args, dict(request.kwargs), task_id=request.job_id, **options
        )
    return next((c for c in capture.calls if c.job_id == request.job_id), capture.calls[-1])


class _Channel(virtual.Channel):
    """Kombu's Redis channel as far as it decides where a message goes; it writes nothing."""

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
        self.text = ""
        self.destinations: list[Destination] = []
        if not self.fanout_prefix:
            self.keyprefix_fanout = ""
        elif isinstance(self.fanout_prefix, str):
            self.keyprefix_fanout = self.fanout_prefix
        database = connection.client.virtual_host or "0"
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=database.strip("/") or "0")

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        priority = self._get_message_priority(message, reverse=False)
        message, countdown = without_countdown(message)
        command = "LPUSH" if countdown is None else str(countdown)
        lists = tuple(self._key(self.list_for(queue, step)) for step in self.priority_steps)
        key = self._key(self.list_for(queue, priority))
        self._add(Destination(command, key, lists), message)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **_: Any) -> None:
        self._add(Destination("PUBLISH", self._key(self.topic_for(exchange, routing_key))), message)

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _add(self, destination: Destination, message: Any) -> None:
        self.text = self.text or dumps(message)
        self.destinations.append(destination)

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


class MessageBuilder:
    """Builds the messages of one Celery app; several threads may use it."""

    def __init__(self, celery: Any) -> None:
        self._celery = celery
        connection = Connection(
            transport=_Transport,
            virtual_host=celery.connection_for_write().virtual_host,
            transport_options=celery.conf.broker_transport_options,
        )
        self._channel: Any = connection.channel()
        self._producer = celery.amqp.Producer(self._channel, auto_declare=False)
        self._building = threading.Lock()
        self._declared: set[tuple[type, str]] = set()
        for queue in celery.amqp.queues.values():
            queue(self._channel).declare()  # a topic exchange finds its queues by their bindings

    def build(self, call: PublishCall, arguments: dict[str, Any] | None = None) -> BuiltMessage:
        """Build the message that the call would publish; its record has the arguments, if given.

        Raises kombu's EncodeError where its body is not JSON.
        """
        with self._building:
            self._clear()
            # Kombu copies and binds a queue before it finds that the channel knows it already.
            queues = {(type(each), each.name) for each in call.options.get("declare") or ()}
            known = {"declare": None} if queues <= self._declared else {}
            self._producer.publish(call.body, **{**call.options, **known})
            self._declared |= queues
            text, destinations = self._channel.text, tuple(self._channel.destinations)
        record = queued_record(call, arguments=arguments)
        return BuiltMessage(
            call.job_id, call.task, text, record if call.job_id else "", destinations, call.queue
        )

    def build_command(
        self, name: str, arguments: Mapping[str, Any], workers: list[str] | None = None
    ) -> BuiltMessage:
        """Build the message of a command of Celery's remote control, for all workers or some."""
        celery = self._celery
        mailbox = type(celery.control.mailbox)(
            celery.conf.control_exchange,
            type="fanout",
            connection=self._channel.connection.client,
            accept=celery.conf.accept_content,
            serializer=celery.conf.task_serializer,
            clock=celery.clock,
        )
        with self._building:
            self._clear()
            mailbox._broadcast(name, dict(arguments), workers, channel=self._channel)  # noqa: SLF001
            return BuiltMessage("", None, self._channel.text, "", (*self._channel.destinations,))

    def _clear(self) -> None:
        self._channel.text = ""
        self._channel.destinations.clear()


def queued_record(
    call: PublishCall,
    *,
    arguments: Mapping[str, Any] | None = None,
    marks: Mapping[str, object] | None = None,
) -> str:
    """The record, as it waits, of the job that this call sends."""
    return encode_queued(
        call.job_id,
        call.task,
        call.queued_at,
        owner=call.owner,
        queue=call.queue,
        tags=call.tags,
        arguments=arguments,
        marks=marks,
        due_at=call.due_at,
    )
