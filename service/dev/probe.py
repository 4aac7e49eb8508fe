"""Asks a server whether it is ready."""

import asyncio
from dataclasses import dataclass
from typing import Final

from service.redis.deadline import Deadline

_TIMEOUT: Final = 5.0  # seconds without an answer


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that a server answers, in a line that begins with `answer`, once it is ready.

    It then closes the connection, as the question asks it to.
    """

    host: str
    port: int
    question: bytes
    answer: bytes

    async def is_answered(self) -> bool:
        """Ask once."""
        try:
            async with Deadline(_TIMEOUT):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(self.question)
                    return any([line.startswith(self.answer) async for line in reader])
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False
