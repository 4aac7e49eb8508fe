"""The channels of a connection on which messages are published, each confirmed."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from amqp import spec
from amqp.serialization import dumps

from service.rabbitmq.frames import ASKS, PUBLISHES, FrameStream
from service.rabbitmq.packing import PUBLISH_FORM, PackedMessage

_NOT_FOUND: Final = 404
_DEFAULT_EXCHANGE: Final = "amq.default"  # how RabbitMQ calls the one without a name
_LAST_NUMBER: Final = (
    2000  # RabbitMQ has 2047 channels in a connection, unless it is told otherwise
)
_RENEW_AFTER: Final = 0.1  # seconds for which a new channel is kept, even if it is of no use


class ConnectionLostError(Exception):
    """There is no connection that takes messages.

    Where it ended before RabbitMQ has confirmed a message, RabbitMQ may have it, or not.
    `by_another`: it ended because RabbitMQ has refused another message.
    """

    def __init__(self, reason: str, *, by_another: bool = False) -> None:
        super().__init__(reason)
        self.by_another = by_another


class MessageRefusedError(Exception):
    """RabbitMQ has not taken the message, as no queue takes it.

    `is_final`: nothing that could be declared will change that.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class MessageNackedError(Exception):
    """RabbitMQ has not taken the message, as its queue cannot just now."""


class Publication(NamedTuple):
    """A message and where it goes. A mandatory one has to reach a queue.

    The message is py-amqp's object, or a PackedMessage of a template that goes to the same place.
    """

    message: Any
    exchange: str
    routing_key: str
    mandatory: bool = False

    @property
    def job_id(self) -> str:
        """The id of its job, by which one that comes back is known."""
        return _job_id_in(self.message)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments of AMQP's method that publishes it."""
        return 0, self.exchange, self.routing_key, self.mandatory, False

    def check(self) -> None:
        """Raise the error of py-amqp's that publishing it would raise, of any class."""
        dumps(PUBLISH_FORM, self.arguments)
        self.message._serialize_properties()  # noqa: SLF001  of GenericContent, pinned

    def is_named_in(self, refusal: str) -> bool:
        """Whether RabbitMQ speaks of this message, where it closes the channel of many."""
        # The kind before the name: a vhost or a user may be called as an exchange is.
        named = (
            f"exchange '{self.exchange or _DEFAULT_EXCHANGE}'",
            f"expiration '{self.message.properties.get('expiration')}'",
            f" size {len(self.message.body)} ",
        )
        return any(each in refusal for each in named)


def _job_id_in(message: Any) -> str:
    return str(message.properties.get("correlation_id") or "")


class _Unconfirmed(NamedTuple):
    publication: Publication
    future: asyncio.Future[None]

    def finish(self, error: Exception | None = None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class PublishChannel:
    """One channel, which is open and confirms. To be used on one loop."""

    def __init__(self, stream: FrameStream, number: int) -> None:
        self.number = number
        self.has_nacked = False
        self.opened_at = asyncio.get_running_loop().time()
        self._stream = stream
        self._tag = 0
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._returned: dict[str, str] = {}  # by the job's id: why

    @property
    def is_idle(self) -> bool:
        """Whether all that was published is confirmed."""
        return not self._unconfirmed

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        """Publish; what is returned is done when RabbitMQ has confirmed it, or has not."""
        if isinstance(message := publication.message, PackedMessage):
            self._stream.send_packed(self.number, message)
        else:
            to = publication.arguments
            self._stream.send(self.number, spec.Basic.Publish, PUBLISH_FORM, to, message)
        # Not before: what cannot be encoded was not sent, and RabbitMQ counts only what it gets.
        self._tag += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed[self._tag] = _Unconfirmed(publication, future)
        return future

    def on_ack(self, tag: int, *, multiple: bool) -> None:
        """RabbitMQ has confirmed a message, or all up to it."""
        for entry in self._confirmed(tag, multiple=multiple):
            reason = self._returned and self._returned.pop(entry.publication.job_id, "")
            entry.finish(MessageRefusedError(reason) if reason else None)

    def on_nack(self, tag: int, *, multiple: bool) -> None:
        """RabbitMQ has not taken a message, or all up to it."""
        self.has_nacked = True
        reason = "the queue does not take the job just now: it is full, or has lost its leader"
        for entry in self._confirmed(tag, multiple=multiple):
            entry.finish(MessageNackedError(reason))

    def on_return(self, message: Any, code: int, text: str, to: str) -> None:
        """Note it: the confirmation of a message that comes back follows."""
        self._returned[_job_id_in(message)] = f"no queue takes the job ({code} {text}, {to!r})"

    def refuse(self, code: int, text: str) -> bool:
        """RabbitMQ has closed the channel because of a message that is named in the text.

        Whether there is such a message.
        """
        named = [e for e in self._unconfirmed.values() if e.publication.is_named_in(text)]
        for entry in named:
            is_final = code != _NOT_FOUND
            entry.finish(MessageRefusedError(f"{code} {text}", is_final=is_final))
        return bool(named)

    def fail(self, error: Exception) -> None:
        """End all that is not confirmed."""
        for entry in self._unconfirmed.values():
            entry.finish(error)
        self._unconfirmed.clear()

    def _confirmed(self, tag: int, *, multiple: bool) -> list[_Unconfirmed]:
        if not multiple:
            entry = self._unconfirmed.pop(tag, None)
            return [] if entry is None else [entry]
        tags = []
        for each in self._unconfirmed:  # in the order in which they were published
            if each > tag:
                break
            tags.append(each)
        return [self._unconfirmed.pop(each) for each in tags]


class PublishChannels:
    """The channel to publish on, and those before it on which something is not confirmed yet.

    A channel that is new to a queue whose leader has just died nacks all messages for it until
    that node is back (RabbitMQ 3.10: it asks the dead leader alone), and confirms none where the
    leader is cut off. A newer one is told of the leader that was elected.
    """

    def __init__(self, stream: FrameStream) -> None:
        self._stream = stream
        self._current = PublishChannel(stream, PUBLISHES)
        self._open = {PUBLISHES: self._current}

    def __iter__(self) -> Iterator[PublishChannel]:
        return iter(self._open.values())

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        """Publish on the newest."""
        return self._current.publish(publication)

    def get(self, number: int) -> PublishChannel | None:
        """The channel of this number, if it is one of these."""
        return self._open.get(number)

    def renew(self, *, after: float = _RENEW_AFTER, is_stuck: bool = False) -> None:
        """Publish on a new channel from now on, if this one has nacked, or confirms nothing.

        Not before it is so many seconds old.
        """
        age = asyncio.get_running_loop().time() - self._current.opened_at
        if not (is_stuck or self._current.has_nacked) or age < after:
            return
        number = self._current.number % _LAST_NUMBER + 1
        while number == ASKS or number in self._open:
            number += 1
        if number > _LAST_NUMBER:
            return  # the next one, when others are closed
        before = self._current
        self._stream.send(number, spec.Channel.Open, "s", ("",))
        self._stream.send(number, spec.Confirm.Select, "b", (False,))
        self._current = self._open[number] = PublishChannel(self._stream, number)
        self.close_if_idle(before)

    def close_if_idle(self, channel: PublishChannel) -> None:
        """Close a channel on which nothing is published any more, once all is confirmed."""
        if channel is not self._current and channel.is_idle:
            del self._open[channel.number]
            self._stream.send(channel.number, spec.Channel.Close, "BsBB", (200, "", 0, 0))
