"""Writes how far a job is: often enough to watch, seldom enough not to flood Redis."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from service.errors import ResultsUnavailableError, UnstorableResultError
from service.results.model import Progress

logger: Final = logging.getLogger(__name__)

INTERVAL: Final = 0.1  # seconds between two writes for one job


class ProgressWriter:
    """Writes one job's reports on the event loop: the first, and then the latest per INTERVAL.

    `report` may be called from any thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: Callable[[Progress], Awaitable[None]]
    ) -> None:
        self._loop = loop
        self._store = store
        self._latest: Progress | None = None
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def report(self, progress: Progress) -> None:
        """Have this written soon, unless a later report comes first."""
        waiting = self._latest is not None
        self._latest = progress
        if not waiting:
            self._loop.call_soon_threadsafe(self._wake)

    async def finish(self) -> None:
        """Write the last report now. Call it before the result is stored."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._write()

    def _wake(self) -> None:
        if self._writing is None and not self._closing.is_set():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        while (progress := self._latest) is not None:
            self._latest = None
            try:
                await self._store(progress)
            except (ResultsUnavailableError, UnstorableResultError) as error:
                logger.warning("A progress report was not stored: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._closing.wait()
        self._writing = None
