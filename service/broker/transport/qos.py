"""Keeps a channel's account of deliveries; the leases tell Redis how these end."""

import os
from typing import Any

from service.broker import celery_worker
from service.broker.leases.in_flight import Outcome
from service.broker.leases.leases import Leases
from service.broker.transport.kombu_bases import RedisQoS, VirtualQoS


class LeasedQoS(RedisQoS):  # type: ignore[misc]  # Any: see kombu_bases
    """Never asks Redis itself: neither a lost connection nor a closed channel can make it fail."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._pid = os.getpid()
        self._rejected: dict[str, str] = {}
        self.delivering = False
        self.leases: Leases | None = None

    def holds(self) -> set[str]:
        """The tags that this channel was given and that have not ended; safe in any thread."""
        while True:
            try:
                given = set(self._delivered)
            except RuntimeError:  # the consuming thread changed it meanwhile
                continue
            backlog = tuple(self.channel.deliverer.backlog)
            return (given - set(self._dirty)).union(delivery.tag for delivery in backlog)

    def free(self, limit: int) -> int:
        """How many messages to ask for, at most `limit`."""
        if "can_consume" in vars(self):
            return 1  # Celery's worker_disable_prefetch decides anew for each message
        estimate = self.can_consume_max_estimate()
        return limit if estimate is None else min(limit, estimate)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Enter a delivery. The take has recorded it in Redis already."""
        VirtualQoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The job has ended."""
        if self.leases is not None:
            self.leases.dispose(Outcome.ACK, delivery_tag)
        VirtualQoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Requeue the message, or give it up: as in AMQP, that makes it a dead letter."""
        if self.leases is not None:
            if requeue:
                self.leases.dispose(Outcome.REQUEUE, delivery_tag)
            else:
                # Celery says the reason only after the rejection: `bury_rejected` is called then.
                self._rejected[delivery_tag] = "The worker rejected the message."
                if not self.delivering:
                    self.bury_rejected()
        VirtualQoS.ack(self, delivery_tag)

    def explain(self, delivery_tag: str, reason: str) -> None:
        """Say why a message was rejected."""
        if delivery_tag in self._rejected:
            self._rejected[delivery_tag] = reason

    def bury_rejected(self) -> None:
        """Make dead letters of what was rejected."""
        while self._rejected and self.leases is not None:
            self.leases.dispose(Outcome.BURY, *self._rejected.popitem())

    def restore_unacked(self, client: Any = None) -> None:
        """The channel closes: keep what runs here, and everything while the worker goes on.

        What still runs when the worker stops goes back as the process ends: it can't be stopped.
        """
        waiting = self.holds()
        self._delivered.clear()
        if self.leases is None or os.getpid() != self._pid:
            return
        if celery_worker.is_serving():
            # The connection was lost. What runs goes on under its lease; what waits (for an ETA,
            # a rate limit) is delivered again from memory, for Celery has just forgotten it.
            in_pool = celery_worker.reserved()
            celery_worker.keep_from_flush(in_pool.values())
            waiting -= celery_worker.running() | set(in_pool)
            self.leases.in_flight.park(waiting, in_pool)
        else:
            for tag in waiting:
                if not self.leases.in_flight.has_begun(tag):
                    self.leases.dispose(Outcome.RETURN, tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the leases' thread recovers what other workers lost."""
