"""A connection to RabbitMQ: publishes many messages at once, each confirmed; asks about queues."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NamedTuple

from amqp import spec
from amqp.serialization import loads

from service.rabbitmq.frames import ASKS, FrameStream, OpenedSocket
from service.rabbitmq.publishing import ConnectionLostError, Publication, PublishChannels

logger: Final = logging.getLogger(__name__)

_CLOSED_BY_US: Final = 200  # the code of a normal end
_CONFIRMATIONS: Final = (spec.Basic.Ack, spec.Basic.Nack)
_TAG_AND_BITS: Final = Struct(">QB")  # their arguments
_NO_QUEUE: Final = "404 NOT_FOUND - no queue "  # how a refusal begins


class QueueCounts(NamedTuple):
    """How many messages are ready in a queue, and how many consumers it has."""

    ready: int
    consumers: int


ABSENT: Final = QueueCounts(0, 0)  # of a queue that RabbitMQ does not have


class RabbitConnection:
    """Publishes on one channel at a time, and asks on another.

    `on_lost` is called once, at the end. To be used on one loop.
    """

    def __init__(self, opened: OpenedSocket, on_lost: Callable[[], None]) -> None:
        self.blocked = False  # by an alarm of RabbitMQ's: it takes no messages for now
        self._is_refusal = False  # why it has ended
        self._stream = FrameStream(opened, self._on_method, self._end)
        self._on_lost = on_lost
        self._channels = PublishChannels(self._stream)
        self._asking = asyncio.Lock()
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._handlers: dict[Any, tuple[str, Callable[..., None]]] = {
            spec.Basic.Return: ("Bsss", self._on_return),
            spec.Basic.QosOk: ("", self._on_answer),
            spec.Queue.DeclareOk: ("sll", self._on_answer),
            spec.Channel.Close: ("BsBB", self._on_channel_close),
            spec.Connection.Close: ("BsBB", self._on_connection_close),
            spec.Connection.Blocked: ("", self._on_blocked),
            spec.Connection.Unblocked: ("", self._on_unblocked),
        }
        self._stream.begin()

    @property
    def lost(self) -> str:
        """Why the connection has ended; empty while it has not."""
        return self._stream.lost

    @property
    def behind(self) -> float:
        """Seconds for which RabbitMQ has not taken all that is sent to it."""
        return self._stream.behind

    @property
    def publish_channels(self) -> list[int]:
        """The numbers of the channels on which messages are published, or not confirmed yet."""
        return [channel.number for channel in self._channels]

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        """Publish; what is returned is done when RabbitMQ has confirmed it.

        It may end with ConnectionLostError, MessageRefusedError or MessageNackedError.
        """
        if not self.lost:
            return self._channels.publish(publication)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(ConnectionLostError(self.lost))
        return failed

    def renew_channel(self) -> None:
        """Publish on a new channel from now on, where the last one has nacked a message."""
        if not self.lost:
            self._channels.renew()

    def renew_stuck_channel(self, seconds: float) -> None:
        """Publish on a new channel, as somebody has waited so long for a confirmation in vain."""
        if not self.lost:
            self._channels.renew(after=seconds, is_stuck=True)

    async def counts_of(self, queue: str) -> QueueCounts | None:
        """How much is in a queue: ABSENT where RabbitMQ has none of this name.

        None where RabbitMQ does not tell. Raises ConnectionLostError.
        """
        passively: tuple[Any, ...] = (0, queue, True, False, False, False, False, {})
        answer = await self._ask(spec.Queue.Declare, "BsbbbbbF", passively)
        if isinstance(answer, str):
            return ABSENT if answer.startswith(_NO_QUEUE) else None
        return QueueCounts(*answer[1:])

    async def ping(self) -> None:
        """Have RabbitMQ answer. Raises ConnectionLostError."""
        await self._ask(spec.Basic.Qos, "lBb", (0, 0, False))

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing at all was received for so long."""
        return self._stream.is_silent(seconds)

    def close(self, reason: str) -> None:
        """End the connection, without waiting for RabbitMQ."""
        if not self.lost:
            told = (_CLOSED_BY_US, reason[:255], 0, 0)
            self._stream.send(0, spec.Connection.Close, "BsBB", told)
            self._stream.flush()
        self._stream.lose(reason)

    async def _ask(self, method: Any, form: str, arguments: tuple[Any, ...]) -> Any:
        async with self._asking:  # one at a time: a refusal closes the channel
            if self.lost:
                raise ConnectionLostError(self.lost)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            self._stream.send(ASKS, method, form, arguments)
            # Shielded: the answer to a cancelled caller still comes, and its future must keep its
            # place.
            return await asyncio.shield(answer)

    def _on_method(self, channel: int, method: Any, packed: bytes, message: Any) -> None:
        if method in _CONFIRMATIONS:  # most are; py-amqp needs four times as long to unpack one
            tag, bits = _TAG_AND_BITS.unpack_from(packed, 4)
            self._on_confirmation(channel, method, tag, multiple=bool(bits & 1))
            return
        form, handle = self._handlers.get(method, ("", None))
        if handle is not None:
            unpacked: Any = loads(form, packed, 4)[0] if form else ()
            handle(channel, message, *unpacked)

    def _on_confirmation(self, number: int, method: Any, tag: int, *, multiple: bool) -> None:
        if channel := self._channels.get(number):
            handle = channel.on_ack if method == spec.Basic.Ack else channel.on_nack
            handle(tag, multiple=multiple)
            self._channels.close_if_idle(channel)

    def _on_return(
        self, number: int, message: Any, code: int, text: str, _: str, routing_key: str
    ) -> None:
        if channel := self._channels.get(number):
            channel.on_return(message, code, text, routing_key)

    def _on_channel_close(self, channel: int, _: Any, code: int, text: str, *__: int) -> None:
        if channel == ASKS:
            self._stream.send(ASKS, spec.Channel.CloseOk)
            self._stream.send(ASKS, spec.Channel.Open, "s", ("",))
            while self._answers:
                self._on_answer(channel, f"{code} {text}")
            return
        if publishes := self._channels.get(channel):
            self._is_refusal = publishes.refuse(code, text)
        self.close(f"{code} {text}")

    def _on_answer(self, _: int, refusal: Any, *arguments: Any) -> None:
        if self._answers and not (answer := self._answers.popleft()).done():
            answer.set_result(arguments or refusal)

    def _on_connection_close(self, _: int, __: Any, code: int, text: str, *___: int) -> None:
        self._stream.send(0, spec.Connection.CloseOk)
        self._stream.flush()
        self._stream.lose(f"{code} {text}")

    def _on_blocked(self, *_: Any) -> None:
        logger.warning("RabbitMQ takes no messages for now: it is short of memory or disk.")
        self.blocked = True

    def _on_unblocked(self, *_: Any) -> None:
        logger.warning("RabbitMQ takes messages again.")
        self.blocked = False

    def _end(self) -> None:
        error = ConnectionLostError(self.lost, by_another=self._is_refusal)
        for channel in self._channels:
            channel.fail(error)
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # whoever asked may have gone away
        self._on_lost()
