"""Hands taken messages to their consumers, and buries those that cannot be handed over."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from service.broker import messages
from service.broker.delivery import Delivery
from service.broker.leases.in_flight import Outcome
from service.broker.scripts import Taken
from service.broker.transport.kombu_bases import VirtualQoS
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)

# Errors that say nothing about the message that was being delivered.
_NOT_ITS_FAULT = (*TRANSIENT, MemoryError)


class Deliverer:
    """The backlog of a channel: what was taken, is held, and is yet to be given to a consumer.

    Deliveries of `no_ack_queues` count as acknowledged once they are delivered.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.backlog: deque[Delivery] = deque()
        self.no_ack_queues: set[str] = set()

    def enter(self, taken: Taken) -> None:
        """Have the leases hold what a take brought, and add what is to be delivered."""
        leases, deferred = self._channel.leases, []
        for delivery in taken.deliveries:
            if leases.hold(delivery):
                if leases.quarantine.admits(delivery):
                    self.backlog.append(delivery)
                else:
                    deferred.append(delivery.tag)
            self._channel._queue_cycle.rotate(delivery.queue)  # noqa: SLF001 - as Kombu does
        for unusable in taken.unusable:
            leases.hold(unusable.delivery)
            leases.dispose(Outcome.BURY, unusable.delivery.tag, unusable.reason)
        if taken.carried or taken.late:
            leases.dispositions.confirm(taken.carried, taken.late)
        if deferred:
            leases.defer(deferred)

    def deliver(self) -> None:
        """Deliver while consumers have room."""
        while self.backlog and self._channel.qos.can_consume():
            self._deliver(self.backlog.popleft())

    def return_backlog(self) -> None:
        """Let other workers have what there is no room for any more."""
        while self.backlog:
            self._channel.leases.dispose(Outcome.RETURN, self.backlog.popleft().tag)

    def _deliver(self, delivery: Delivery) -> None:
        channel, qos = self._channel, self._channel.qos
        leases, tag, queue = channel.leases, delivery.tag, delivery.queue
        if queue not in channel.connection._callbacks:  # noqa: SLF001 - where Kombu's transports look
            leases.dispose(Outcome.RETURN, tag)  # cancelled since we asked
            return
        qos.delivering = True
        try:
            payload = messages.read(delivery.message)
            payload["properties"]["delivery_tag"] = tag
            if delivery.is_due:
                # Celery would look at this machine's clock, and let the job wait here.
                headers = payload["headers"]
                payload["properties"][messages.ETA] = headers.get("eta")
                headers["eta"] = None
            channel.connection._deliver(payload, queue)  # noqa: SLF001
        except _NOT_ITS_FAULT:
            if leases.in_flight.is_open(tag) and tag not in qos.holds():
                self.backlog.appendleft(delivery)
            raise
        except Exception as error:
            # Whatever a message can do to Kombu or Celery: the next worker must not go through
            # the same. (Kombu would take a KeyError for a lost connection, and try for ever.)
            logger.exception("A message of %s cannot be delivered.", queue)
            if leases.in_flight.is_open(tag):
                reason = f"The message cannot be delivered: {error!r}"[:1000]
                leases.dispose(Outcome.BURY, tag, reason)
                VirtualQoS.ack(qos, tag)
        finally:
            qos.delivering = False
            qos.bury_rejected()
        if queue in self.no_ack_queues:
            leases.dispose(Outcome.ACK, tag)


def decode_first(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A consumer's callback that is called only with messages whose body can be decoded.

    Celery acknowledges what it cannot decode and reports it to nobody. It decodes the body anyway,
    and the message keeps the outcome. Other formats than JSON may be forbidden to it.
    """

    def decoded(message: Any) -> Any:
        if message.errors:
            raise messages.UnreadableMessageError(repr(message.errors[0][1]))
        if message.content_type == messages.JSON:
            messages.decode_body(message)
        return callback(message)

    return decoded
