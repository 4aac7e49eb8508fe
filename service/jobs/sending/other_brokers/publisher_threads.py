"""A few threads for calls that wait for the broker."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.errors import BrokerUnavailableError
from service.redis.deadline import Deadline

V = TypeVar("V")

_THREADS: Final = 4


class PublisherThreads:
    """A few threads for code that blocks. Calls beyond their number wait for a thread."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self.server = "The broker"  # that the calls wait for, as errors name it
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
            async with Deadline(self.timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            has_begun = not future.cancelled()  # asyncio has cancelled it if it could
            raise BrokerUnavailableError(
                f"no answer within {self.timeout:g} s",
                maybe_accepted=has_begun,
                server=self.server,
            ) from error

    def close(self) -> None:
        """Let the threads end when their calls have returned."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
