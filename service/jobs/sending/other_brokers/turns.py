"""Lets callers that have waited for one thing go on, a few in each turn of the event loop."""

import asyncio
from collections import deque


class Turns:
    """Lets a few callers go on in each turn of the event loop.

    Where many have waited for one thing, all of their errors at once would hold the loop for long.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait until it is the caller's turn."""
        loop = asyncio.get_running_loop()
        self._waiting.append(turn := loop.create_future())
        if len(self._waiting) == 1:
            loop.call_soon(self._release, loop)
        await turn

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(self._at_once, len(self._waiting))):
            if not (turn := self._waiting.popleft()).done():
                turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._release, loop)
