"""Knows which queues this process has declared on RabbitMQ."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from service.errors import BrokerUnavailableError
from service.jobs.sending.other_brokers.publisher_threads import PublisherThreads


class DeclaredQueues:
    """Declares each queue once, until it is forgotten. To be used on one loop."""

    def __init__(
        self,
        threads: PublisherThreads,
        declare: Callable[[Any], None],
        is_absent: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`declare` blocks, and is called in a thread; `is_absent` says that a queue is gone."""
        self._threads, self._declare, self._is_absent = threads, declare, is_absent
        self._declared: dict[tuple[type, str], asyncio.Task[None]] = {}

    async def add(self, queue: Any) -> None:
        """Declare a queue, unless that is done. Raises BrokerUnavailableError."""
        declaring = self._declared.get(key := _identity(queue))
        if declaring is None or _has_failed(declaring):
            # In a context of its own, or it would keep that of the request for ever.
            declaring = self._declared[key] = asyncio.get_running_loop().create_task(
                self._threads.run(lambda: self._declare(queue)),
                context=contextvars.Context(),
            )
            declaring.add_done_callback(_has_failed)  # or asyncio logs what nobody waits for
        if not declaring.done():
            await asyncio.wait([declaring])
        if declaring.cancelled():  # not by the caller: it would take that for its own end
            reason = "declaring the queue was cancelled"
            raise BrokerUnavailableError(reason, server=self._threads.server)
        declaring.result()

    def has(self, queue: Any) -> bool:
        """Whether it is declared."""
        declaring = self._declared.get(_identity(queue))
        return declaring is not None and declaring.done() and not _has_failed(declaring)

    def forget(self, queue: Any) -> None:
        """Have a queue be declared anew."""
        self._declared.pop(_identity(queue), None)

    async def look_at(self, queues: Iterable[Any]) -> None:
        """Forget those that are gone. For scheduled jobs, which their delay takes all the same."""
        for queue in queues:
            declared = self._declared.get(key := _identity(queue))
            if declared is None or not declared.done():
                continue
            if await self._is_absent(queue.name) and self._declared.get(key) is declared:
                del self._declared[key]

    def clear(self) -> None:
        """Forget all, and wait for nothing."""
        for declaring in self._declared.values():
            declaring.cancel()
        self._declared.clear()


def _identity(queue: Any) -> tuple[type, str]:
    return type(queue), queue.name


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
