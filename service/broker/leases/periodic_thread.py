"""A thread that repeats its work, and that no error ends."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import ResponseError

from service.redis.transient import TRANSIENT, reason_of
from service.signals import Incident, note_incident

logger = logging.getLogger(__name__)

_RETRY: Final = 0.5


class PeriodicThread(threading.Thread):
    """Does `work` every `pause` seconds, `linger` seconds after it was woken, and soon on trouble.

    `on_outage` is called with the error whenever Redis was away or refused the work.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        pause: float,
        linger: float = 0.0,
        on_outage: Callable[[Exception], object] = bool,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._pause = pause
        self._linger = linger
        self._on_outage = on_outage
        self._wake = threading.Event()
        self._away = False

    def wake(self) -> None:
        """Have the work done soon. Called for each job, and `Event.set` always takes a lock."""
        if not self._wake.is_set():
            self._wake.set()

    def run(self) -> None:
        """Work for as long as the process lives."""
        while True:
            if not self._try():
                time.sleep(min(_RETRY, self._pause))  # even if woken: it cannot be done now
            elif self._wake.wait(self._pause):
                self._wake.clear()
                time.sleep(self._linger)

    def _try(self) -> bool:
        try:
            try:
                self._work()
            except TRANSIENT:
                if self._away:
                    raise
                # After an outage nothing may be recovered for a lease, but one connection that was
                # cut is no outage: a new connection tells them apart.
                self._work()
        except TRANSIENT as error:
            if not self._away:
                what = "refuses it" if isinstance(error, ResponseError) else "is away"
                text = "Redis %s; the %s thread goes on trying: %s"
                logger.warning(text, what, self.name, reason_of(error))
            self._away = True
            note_incident(Incident.REDIS_ERROR)
            self._on_outage(error)
            return False
        except Exception:
            # Without this thread leases run out: it must outlive any mistake in its work.
            logger.exception("The %s thread failed; it goes on.", self.name)
            return False
        if self._away:
            logger.warning("Redis is back for the %s thread.", self.name)
        self._away = False
        return True
