"""Bounds how many jobs whose workers died run at once, so that they end no more workers."""

import time
from collections.abc import Callable
from typing import Final

from service.broker import celery_worker, messages
from service.broker.delivery import Delivery, LeaseOptions

# Ends that a job's worker has come to before the job is suspected of them.
_SUSPECT_AFTER: Final = 2
_PAUSE: Final = 0.2
_MARK: Final = messages.DELIVERIES.encode()


class Quarantine:
    """Bounds how many suspects a process has among its jobs.

    A job that ends its process is not the only one there. If all that ran with it came back
    together, they would end together again, until all of them were dead letters. So a process runs
    one job that has come back twice, and two more for each of them that has ended, or has done no
    harm for a lease: a hundred jobs that were only unlucky have soon proved it. Of jobs which the
    next end would make a dead letter there is never more than one.

    A job of the prefork pool ends only the child that it is alone in, and is counted by itself.
    """

    def __init__(self, options: LeaseOptions, is_open: Callable[[str], bool]) -> None:
        self._lease = options.lease
        self._last = options.max_deliveries - 1
        self._limit = min(_SUSPECT_AFTER, self._last)
        self._is_open = is_open
        self._watched: dict[str, tuple[float, bool]] = {}  # tag → until when, is it the last chance
        self._room = 1
        self._pause_until = 0.0

    def admits(self, delivery: Delivery) -> bool:
        """Whether this delivery may run here now; else it is to be deferred."""
        if _MARK not in delivery.message or not celery_worker.jobs_share_a_process():
            return True
        try:
            count = messages.deliveries(messages.read(delivery.message))
        except messages.UnreadableMessageError:
            return True
        if not count >= self._limit > 0:
            return True
        now = time.monotonic()
        for tag, (until, _) in list(self._watched.items()):
            if now >= until or not self._is_open(tag):
                del self._watched[tag]
                self._room += 1
        is_last = count >= self._last
        if len(self._watched) >= self._room or (
            is_last and any(other for _, other in self._watched.values())
        ):
            self._pause_until = now + _PAUSE
            return False
        self._watched[delivery.tag] = now + self._lease, is_last
        return True

    @property
    def pauses(self) -> bool:
        """Whether to take nothing: it might be what was deferred a moment ago."""
        return time.monotonic() < self._pause_until
