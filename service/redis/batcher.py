"""Gathers items: what is added while a batch is on its way to Redis goes with the next one."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar


class BatchItem(Protocol):
    """What a batcher gathers."""

    @property
    def count(self) -> int:
        """How many commands or records it is, towards the limit of a batch."""

    @property
    def size(self) -> int:
        """How many bytes it has, towards the limit of a batch."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is still to be sent; asked when its batch is made."""


ItemT = TypeVar("ItemT", bound=BatchItem)


class Batcher(Generic[ItemT]):
    """Hands batches to `send`, which must not raise: it answers those who wait for its items.

    At most `parallel` batches are on their way at once. The first item is sent at once, and another
    batch beside one that is on its way only when it is full. A batch has at most `max_count`
    commands, and about `max_bytes` bytes unless one item alone has more. To be used on one loop.

    A batch whose sending others cancel, as a body that cancels every task of the loop does, is
    handed to `send` once more.
    """

    def __init__(
        self,
        send: Callable[[list[ItemT]], Awaitable[None]],
        *,
        max_count: int,
        max_bytes: int = 0,
        parallel: int = 1,
    ) -> None:
        self._send = send
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._parallel = parallel
        self._waiting: deque[ItemT] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._closing = False

    def add(self, item: ItemT) -> None:
        """Have the item sent."""
        self._waiting.append(item)
        senders = len(self._senders)
        if not senders or (senders < self._parallel and len(self._waiting) >= self._max_count):
            self._start()

    async def close(self) -> list[ItemT]:
        """Cancel what is on its way, wait until that has ended, and give what was never sent."""
        senders = list(self._senders)
        self._closing = True
        for sender in senders:
            sender.cancel()
        if senders:
            await asyncio.wait(senders)
        self._closing = False
        return [item for item in self._waiting if item.is_wanted]

    def _start(self) -> None:
        # In a context of its own, or it would belong to the job that happened to start it.
        sender = asyncio.get_running_loop().create_task(
            self._send_all(), context=contextvars.Context()
        )
        self._senders.add(sender)
        sender.add_done_callback(self._go_on)

    async def _send_all(self) -> None:
        sender: Any = asyncio.current_task()
        batch: list[ItemT] = []
        try:
            while batch := self._next_batch():
                await self._send(batch)
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(batch))
            raise
        finally:
            # Here and not in the callback, which runs later than the next `add`.
            self._senders.discard(sender)

    def _go_on(self, sender: asyncio.Task[None]) -> None:
        """Start again after a cancellation, which may have come before the first step."""
        self._senders.discard(sender)
        if sender.cancelled() and self._waiting and not (self._senders or self._closing):
            self._start()

    def _next_batch(self) -> list[ItemT]:
        batch: list[ItemT] = []
        count = size = 0
        while self._waiting:
            item = self._waiting[0]
            if not item.is_wanted:
                self._waiting.popleft()
                continue
            count += item.count
            size += item.size
            if batch and (count > self._max_count or 0 < self._max_bytes < size):
                break
            batch.append(self._waiting.popleft())
        return batch
