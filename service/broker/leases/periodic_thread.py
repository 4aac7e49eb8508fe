"""A thread that does the same work again and again, and that no error ends."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis.exceptions import ResponseError

from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)

_RETRY: Final = 0.5


class Tending(threading.Thread):
    """Does `work` every `pause` seconds, `linger` seconds after it was woken, and on trouble soon.

    `on_outage` is called with the error whenever the work could not be done for want of Redis.
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
        self._never = threading.Event()
        self._away = False

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def run(self) -> None:
        """Work for as long as the process lives."""
        while True:
            trouble = self._try()
            pause = min(_RETRY, self._pause) if trouble else self._pause
            if trouble:
                self._never.wait(pause)  # even if there is more to do: it cannot be done now
            elif self._wake.wait(pause):
                self._wake.clear()
                self._never.wait(self._linger)

    def _work_on_a_live_connection(self) -> None:
        try:
            self._work()
        except TRANSIENT:
            if self._away:
                raise
            # One connection that was cut is no outage, after which nobody may recover anything for
            # a lease. A new connection tells them apart.
            self._work()

    def _try(self) -> bool:
        try:
            self._work_on_a_live_connection()
        except TRANSIENT as error:
            if not self._away:
                what = "refuses it" if isinstance(error, ResponseError) else "is away"
                text = "Redis %s; the %s thread goes on trying: %r"
                logger.warning(text, what, self.name, error)
            self._away = True
            self._on_outage(error)
            return True
        except Exception:
            # Without this thread leases run out: it must outlive any mistake in its work.
            logger.exception("The %s thread failed; it goes on.", self.name)
            return True
        if self._away:
            logger.warning("Redis is back for the %s thread.", self.name)
        self._away = False
        return False
