"""Threads for code that blocks while it builds or publishes messages, each call with a deadline."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.errors import BrokerUnavailableError

V = TypeVar("V")

_THREADS: Final = 4


class PublisherThreads:
    """A few threads, made when first needed. Calls beyond their number wait for a thread."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[[], V]) -> V:
        """Call the function in a thread, in a copy of the calling context.

        Raises BrokerUnavailableError when it has not returned within the timeout; if it has begun
        by then, it goes on, and keeps its thread.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="publisher")
        future = self._executor.submit(contextvars.copy_context().run, function)
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            has_begun = not future.cancelled()  # asyncio has cancelled it if it could
            raise BrokerUnavailableError(
                f"no answer within {self.timeout:g} s", maybe_accepted=has_begun
            ) from error

    async def aclose(self) -> None:
        """Let the threads end when their calls have returned."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
