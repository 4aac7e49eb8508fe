"""Runs what can only block, on a few threads, never longer than its caller will wait."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.errors import BrokerUnavailableError

V = TypeVar("V")

_THREADS: Final = 4


class Threads:
    """A few threads, made when first needed. What they cannot take at once waits its turn."""

    def __init__(self, *, timeout: float) -> None:
        self.timeout = timeout
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[[], V]) -> V:
        """Call the function in a thread and in this context.

        Raises BrokerUnavailableError when it has not returned within the timeout; then it goes
        on alone, and keeps its thread.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="broker")
        context = contextvars.copy_context()
        outcome = self._pool.submit(context.run, function)
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncio.wrap_future(outcome)
        except TimeoutError as error:
            began = not outcome.cancelled()  # asyncio has cancelled it if it could
            raise BrokerUnavailableError(
                f"no answer within {self.timeout:g} s", maybe_accepted=began
            ) from error

    async def aclose(self) -> None:
        """Let the threads go when they are done."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
