"""Celery's consumer where the transport is ours: it acknowledges at once."""

import threading
from typing import Any

from celery.worker.consumer import Consumer


class LeasedConsumer(Consumer):
    """Calls back where Celery's own leaves it to the next turn of the hub, at a cost for each job.

    To acknowledge or reject is to change an account in memory here, and sends nothing.
    """

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the call now, unless a pool asks for it from a thread of its own."""
        if threading.get_ident() != threading.main_thread().ident:
            return super().call_soon_ack(p, *args, **kwargs)  # type: ignore[misc]  # not in celery-types
        return p(*args, **kwargs)
