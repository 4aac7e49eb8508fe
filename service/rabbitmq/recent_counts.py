"""Knows how many messages RabbitMQ's queues have, by one look in two seconds."""

import asyncio
import contextvars
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from service.rabbitmq.client import RabbitClient
from service.rabbitmq.connection import ABSENT, QueueCounts
from service.rabbitmq.publishing import ConnectionLostError
from service.redis.deadline import Deadline

_FRESH: Final = 2.0  # seconds for which a look at a queue serves all
_WITHIN: Final = 0.5  # seconds for a look, or a few at once
_MAX_QUEUES: Final = 100  # at once
_MAX_LOOKS: Final = 1000  # that are remembered


@dataclass(slots=True)
class _Look:
    at: float
    asking: asyncio.Task[QueueCounts | None]
    sent_since: int = 0  # jobs of this process

    @property
    def found(self) -> QueueCounts | None:
        """What was found, once it is done."""
        return None if self.asking.cancelled() else self.asking.result()


class RecentCounts:
    """Asks for each queue at most once in two seconds, however many want to know."""

    def __init__(self, client: RabbitClient) -> None:
        self._client = client
        self._looks: dict[str, _Look] = {}
        self._sending: dict[str, int] = {}  # by the queue, how many jobs

    async def of(self, queue: str) -> QueueCounts | None:
        """How much is in a queue, with what this process sends and has sent since.

        None if it is not known.

        """
        look = await self._look_at(queue)
        if (counts := look.found) is None:
            return None
        more = look.sent_since + self._sending.get(queue, 0)
        return QueueCounts(counts.ready + more, counts.consumers)

    async def is_absent(self, queue: str) -> bool:
        """Whether it is known that RabbitMQ has no such queue."""
        return (await self._look_at(queue)).found is ABSENT

    def forget(self, queue: str) -> None:
        """Look at a queue anew when next asked for it."""
        self._looks.pop(queue, None)

    async def _look_at(self, queue: str) -> _Look:
        loop = asyncio.get_running_loop()
        look = self._looks.get(queue)
        if len(self._looks) > _MAX_LOOKS:
            self._looks.clear()
        if look is None or loop.time() - look.at >= _FRESH:
            # In a context of its own, or it would belong to the request that happened to ask.
            asking = loop.create_task(self._ask(queue), context=contextvars.Context())
            look = self._looks[queue] = _Look(loop.time(), asking)
        if not look.asking.done():
            await asyncio.wait([look.asking])
        return look

    async def of_all(self, queues: Iterable[str]) -> dict[str, QueueCounts]:
        """How much is in each queue, as far as it is known."""
        names = [*queues][:_MAX_QUEUES]
        found = await asyncio.gather(*map(self.of, names))
        return {name: counts for name, counts in zip(names, found, strict=True) if counts}

    @contextmanager
    def sending(self, queue: str) -> Iterator[None]:
        """Count a job that is being sent to a queue."""
        self._sending[queue] = self._sending.get(queue, 0) + 1
        try:
            yield
        finally:
            self._sending[queue] -= 1
            if not self._sending[queue]:
                del self._sending[queue]

    def note_sent(self, queue: str) -> None:
        """Count a job that this process has sent to a queue."""
        if (look := self._looks.get(queue)) is not None:
            look.sent_since += 1

    async def aclose(self) -> None:
        """Ask no more."""
        if asking := [look.asking for look in self._looks.values() if not look.asking.done()]:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
        self._looks.clear()

    async def _ask(self, queue: str) -> QueueCounts | None:
        try:
            async with Deadline(_WITHIN):
                return await (await self._client.connection()).counts_of(queue)
        except (ConnectionLostError, TimeoutError):
            return None
