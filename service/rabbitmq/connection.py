"""A connection to RabbitMQ: publishes many messages at once, each confirmed; asks about queues."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from amqp import spec
from amqp.serialization import loads

from service.rabbitmq.frames import ASKS, PUBLISHES, FrameStream, OpenedSocket

logger: Final = logging.getLogger(__name__)

_CLOSED_BY_US: Final = 200  # the code of a normal end
_NOT_FOUND: Final = 404


class ConnectionLostError(Exception):
    """The connection ended before RabbitMQ has confirmed the message: it may have it, or not."""


class MessageRefusedError(Exception):
    """RabbitMQ has not taken the message: no queue takes it, or its queue cannot just now.

    `is_final`: nothing that could be declared will change that.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Publication(NamedTuple):
    """A message, py-amqp's object, and where it goes. A mandatory one has to reach a queue."""

    message: Any
    exchange: str
    routing_key: str
    mandatory: bool = False

    @property
    def job_id(self) -> str:
        """The id of its job, by which one that comes back is known."""
        return str(self.message.properties.get("correlation_id") or "")

    def is_named_in(self, refusal: str) -> bool:
        """Whether RabbitMQ speaks of this message, where it closes the channel of many."""
        expiration = self.message.properties.get("expiration")
        named = [f"'{each}'" for each in (self.exchange, expiration) if each]
        return any(each in refusal for each in (*named, f" size {len(self.message.body)} "))


class QueueCounts(NamedTuple):
    """How many messages are ready in a queue, and how many consumers it has."""

    ready: int
    consumers: int


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


class RabbitConnection:
    """Publishes on one channel, and asks on another. `on_lost` is called once, at the end.

    To be used on one loop.
    """

    def __init__(self, opened: OpenedSocket, on_lost: Callable[[], None]) -> None:
        self.blocked = False  # by an alarm of RabbitMQ's: it takes no messages for now
        self._stream = FrameStream(opened, self._on_method, self._end)
        self._on_lost = on_lost
        self._tag = 0
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._returned: dict[str, str] = {}  # by the job's id: why
        self._asking = asyncio.Lock()
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._handlers: dict[Any, tuple[str, Callable[..., None]]] = {
            spec.Basic.Ack: ("Lb", self._on_ack),
            spec.Basic.Nack: ("Lb", self._on_nack),
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

    async def publish(self, publication: Publication) -> None:
        """Publish, and wait for the confirmation.

        Raises ConnectionLostError and MessageRefusedError.
        """
        if self.lost:
            raise ConnectionLostError(self.lost)
        self._tag += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed[self._tag] = _Unconfirmed(publication, future)
        message, exchange, routing_key, mandatory = publication
        to = (0, exchange, routing_key, mandatory, False)
        self._stream.send(PUBLISHES, spec.Basic.Publish, "Bssbb", to, message)
        await future

    async def counts_of(self, queue: str) -> QueueCounts:
        """How much is in a queue: nothing where RabbitMQ has none of this name.

        Raises ConnectionLostError.
        """
        passively: tuple[Any, ...] = (0, queue, True, False, False, False, False, {})
        answer = await self._ask(spec.Queue.Declare, "BsbbbbbF", passively)
        return QueueCounts(0, 0) if answer is None else QueueCounts(*answer[1:])

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
            # Of one who goes away the answer still comes, and is not the next one's.
            return await asyncio.shield(answer)

    def _on_method(self, channel: int, method: Any, packed: bytes, message: Any) -> None:
        form, handle = self._handlers.get(method, ("", None))
        if handle is not None:
            unpacked: Any = loads(form, packed, 4)[0] if form else ()
            handle(channel, message, *unpacked)

    def _on_ack(self, _: int, __: Any, tag: int, multiple: bool) -> None:
        for entry in self._confirmed(tag, multiple=multiple):
            reason = self._returned and self._returned.pop(entry.publication.job_id, "")
            entry.finish(MessageRefusedError(reason) if reason else None)

    def _on_nack(self, _: int, __: Any, tag: int, multiple: bool) -> None:
        for entry in self._confirmed(tag, multiple=multiple):
            entry.finish(MessageRefusedError("the queue does not take the job just now"))

    def _confirmed(self, tag: int, *, multiple: bool) -> list[_Unconfirmed]:
        tags = [tag] if tag in self._unconfirmed else []
        if multiple:
            tags = []
            for each in self._unconfirmed:  # in the order in which they were published
                if each > tag:
                    break
                tags.append(each)
        return [self._unconfirmed.pop(each) for each in tags]

    def _on_return(self, _: int, message: Any, code: int, text: str, __: str, to: str) -> None:
        """Note it: the confirmation of a message that comes back follows."""
        job_id = str(message.properties.get("correlation_id") or "")
        self._returned[job_id] = f"no queue takes the job ({code} {text}, {to!r})"

    def _on_channel_close(self, channel: int, _: Any, code: int, text: str, *__: int) -> None:
        if channel == ASKS:
            self._stream.send(ASKS, spec.Channel.CloseOk)
            self._stream.send(ASKS, spec.Channel.Open, "s", ("",))
            while self._answers:
                self._on_answer(channel, None)
            return
        reason = f"{code} {text}"
        for entry in self._unconfirmed.values():
            if entry.publication.is_named_in(text):
                entry.finish(MessageRefusedError(reason, is_final=code != _NOT_FOUND))
        self.close(reason)

    def _on_answer(self, _: int, nothing: Any, *arguments: Any) -> None:
        if self._answers and not (answer := self._answers.popleft()).done():
            answer.set_result(arguments or nothing)

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
        error = ConnectionLostError(self.lost)
        for entry in self._unconfirmed.values():
            entry.finish(error)
        self._unconfirmed.clear()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # whoever asked may have gone away
        self._on_lost()
