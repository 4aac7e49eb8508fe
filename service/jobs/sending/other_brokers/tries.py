"""Publishes a message on RabbitMQ until it is taken, or the time is over."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from service.errors import BrokerUnavailableError
from service.jobs.sending.other_brokers.declared_queues import DeclaredQueues
from service.jobs.sending.other_brokers.turns import Turns
from service.rabbitmq.client import RabbitClient
from service.rabbitmq.publishing import (
    ConnectionLostError,
    MessageNackedError,
    MessageRefusedError,
    Publication,
)
from service.redis.deadline import Deadline, SharedDeadline

SERVER: Final = "RabbitMQ"  # as errors name it
_MAX_TRIES: Final = 3  # where a connection is lost meanwhile
# Seconds before a message that was not taken is published once more; twice as long each time.
_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 0.8
_ERRORS_AT_ONCE: Final = 20  # that are raised in one turn of the event loop
# Seconds between the deadlines of calls that begin together: to end all at once holds the loop.
_APART: Final = 0.0002
_MOST_EARLY: Final = 0.1  # of the timeout


class PublishedMessage(NamedTuple):
    """A message for these queues; `again` gives it marked as a copy, where RabbitMQ may have it."""

    publication: Publication
    queues: Sequence[Any]
    again: Callable[[], Publication]


@dataclass(slots=True)
class _Tries:
    """What became of a message that is published once or more."""

    first: asyncio.Future[None] | None  # of the first try, where that was made
    in_doubt: int = 0  # how often it was published, and RabbitMQ may have it
    nacked: str = ""  # why RabbitMQ does not take it, as long as that is all that is known
    has_waited_for_queue: bool = False  # to be declared, on another connection


class TryingPublisher:
    """Publishes at once where it can; tries again where that is of use."""

    def __init__(self, rabbit: RabbitClient, declared: DeclaredQueues, timeout: float) -> None:
        self._rabbit, self._declared, self._timeout = rabbit, declared, timeout
        self._waiting = 0  # calls of `_publish_in_time`
        self._turns = Turns(_ERRORS_AT_ONCE)
        self._deadline = SharedDeadline(timeout)

    async def publish(self, message: PublishedMessage, *, is_scheduled: bool) -> None:
        """Publish, and wait for the confirmation.

        Raises BrokerUnavailableError.
        """
        began = asyncio.get_running_loop().time()
        first = None if is_scheduled else self._publish_at_once(message)
        if first is None or not await _is_taken(first):
            until = began + self._timeout
            await self._publish_in_time(message, _Tries(first), until, is_scheduled)

    def close(self) -> None:
        """Forget the deadlines of all that is on its way."""
        self._deadline.clear()

    def _publish_at_once(self, message: PublishedMessage) -> asyncio.Future[None] | None:
        """Publish, unless there is something to wait for before that."""
        connection = self._rabbit.ready
        if connection is None or not all(map(self._declared.has, message.queues)):
            return None
        sent = connection.publish(message.publication)
        self._deadline.add(sent, TimeoutError)
        return sent

    async def _publish_in_time(
        self, message: PublishedMessage, tries: _Tries, until: float, is_scheduled: bool
    ) -> None:
        self._waiting += 1
        early = min(self._waiting * _APART, _MOST_EARLY * self._timeout)
        left = until - early - asyncio.get_running_loop().time()
        try:
            async with Deadline(max(left, 0)):
                if is_scheduled:
                    await self._declared.look_at(message.queues)
                await self._try(message, tries)
        except TimeoutError:
            if not tries.has_waited_for_queue:
                self._rabbit.note_timeout(self._timeout - early)
            reason = tries.nacked or f"no answer within {self._timeout:g} s"
        except (ConnectionLostError, MessageRefusedError) as error:
            reason = str(error)
        except BrokerUnavailableError as error:  # the queue cannot be declared
            reason = error.reason
        else:
            return
        finally:
            self._waiting -= 1
        await self._turns.wait()
        raise BrokerUnavailableError(reason, maybe_accepted=tries.in_doubt > 0, server=SERVER)

    async def _try(self, message: PublishedMessage, tries: _Tries) -> None:
        """Publish on one connection after the other, if the first try has failed."""
        publication, queues, again = message
        is_refused, losses, pause = False, 0, _PAUSE
        while True:
            sent, tries.first = tries.first, None
            if sent is None:
                sent = await self._publish_on_next(publication, queues, tries)
            tries.in_doubt, tries.nacked = tries.in_doubt + 1, ""
            try:
                await sent
            except ConnectionLostError as error:
                losses += not error.by_another
                if losses == _MAX_TRIES:
                    raise
                publication = again()
                continue
            except MessageNackedError as error:
                tries.in_doubt, tries.nacked = tries.in_doubt - 1, str(error)
            except MessageRefusedError as error:
                tries.in_doubt -= 1
                if is_refused or error.is_final:
                    raise
                is_refused = True
                for queue in queues:
                    self._declared.forget(queue)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
            self._rabbit.renew_channel()

    async def _publish_on_next(
        self, publication: Publication, queues: Sequence[Any], tries: _Tries
    ) -> asyncio.Future[None]:
        connection = await self._rabbit.connection()
        for queue in queues:
            tries.has_waited_for_queue |= not self._declared.has(queue)
            await self._declared.add(queue)
        return connection.publish(publication)


async def _is_taken(sent: asyncio.Future[None]) -> bool:
    try:
        await sent
    except (ConnectionLostError, MessageNackedError, MessageRefusedError, TimeoutError):
        return False
    return True
