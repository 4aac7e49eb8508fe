"""How fast queues fill, by how much waited in them a while ago; pure."""

from collections import deque
from typing import Final

SPAN: Final = 60.0  # seconds


class Flow:
    """What waited in each queue at the readings of the last minute."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rate_in(self, queue: str, now: float, waiting: int, rate_out: float) -> float:
        """Jobs that came in a second: those that went, and those that wait in addition."""
        seen = self._seen.setdefault(queue, deque())
        while seen and seen[0][0] < now - SPAN:
            seen.popleft()
        seen.append((now, waiting))
        at, before = seen[0]
        more = (waiting - before) / (now - at) if now > at else 0.0
        return max(0.0, rate_out + more)
