"""Runs jobs whose workers died before one at a time, so that they take no others along."""

import time
from collections.abc import Callable
from typing import Final

from service.broker import messages
from service.broker.held import LeaseOptions

# Ends that a job's worker has come to before the job is suspected of them.
_SUSPECT_AFTER: Final = 2
_PAUSE: Final = 0.2
_MARK: Final = messages.DELIVERIES.encode()


class Trial:
    """Lets a process have one suspect among its jobs.

    A job that ends its process is not the only one there. If all that ran with it came back
    together, they would end together again, until all of them were dead letters. But a job that
    has come back twice runs without others of its kind: of those that are left it is then the only
    one which the next end counts against, and the rest, who have fewer, can bear it. After a lease
    without an end the suspicion no longer keeps the next one waiting.
    """

    def __init__(self, options: LeaseOptions, is_open: Callable[[str], bool]) -> None:
        self._lease = options.lease
        self._limit = min(_SUSPECT_AFTER, options.max_deliveries - 1)
        self._is_open = is_open
        self._tag = ""
        self._until = 0.0
        self._pause_until = 0.0

    def admits(self, tag: str, item: bytes) -> bool:
        """Whether this delivery may run here now; else it is to be put off."""
        if _MARK not in item or not self._is_suspect(item):
            return True
        now = time.monotonic()
        if self._is_open(self._tag) and now < self._until:
            self._pause_until = now + _PAUSE
            return False
        self._tag, self._until = tag, now + self._lease
        return True

    @property
    def pauses(self) -> bool:
        """Whether to take nothing: it might be what was put off a moment ago."""
        return time.monotonic() < self._pause_until

    def _is_suspect(self, item: bytes) -> bool:
        try:
            count = messages.deliveries(messages.read(item))
        except messages.UnreadableMessageError:
            return False
        return count >= self._limit > 0
