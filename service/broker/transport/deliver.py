"""Hands taken messages to their consumers, and puts aside those that cannot be handed over."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from service.broker import messages
from service.broker.leases.leases import Leases
from service.broker.transport.kombu_bases import VirtualQoS
from service.broker.transport.publish import PublishingChannel
from service.redis.transient import TRANSIENT

logger = logging.getLogger(__name__)

# What says nothing about the message that was being delivered.
_NOT_ITS_FAULT = (*TRANSIENT, MemoryError)


class DeliveringChannel(PublishingChannel):
    """The delivering half of a channel. `backlog`: taken messages as (queue, tag, item)."""

    backlog: deque[tuple[str, str, bytes]]
    _no_ack_queues: set[str]

    @property
    def leases(self) -> Leases:
        """What this process holds on this channel's broker."""
        raise NotImplementedError

    def _deliver_backlog(self) -> None:
        while self.backlog and self.qos.can_consume():
            self._deliver(*self.backlog.popleft())

    def _return_backlog(self) -> None:
        """Let others have what there is no room for any more."""
        self.leases.give_back([tag for _, tag, _ in self.backlog])
        self.backlog.clear()

    def _deliver(self, queue: str, tag: str, item: bytes) -> None:
        if queue not in self.connection._callbacks:  # noqa: SLF001 - where Kombu's transports look
            self.leases.give_back([tag])  # cancelled since we asked
            return
        self.qos.delivering = True
        try:
            payload = messages.read(item)
            payload["properties"]["delivery_tag"] = tag
            self.connection._deliver(payload, queue)  # noqa: SLF001
        except _NOT_ITS_FAULT:
            if self.leases.is_open(tag) and tag not in self.qos.holds():
                self.backlog.appendleft((queue, tag, item))
            raise
        except Exception as error:
            # Whatever a message can do to Kombu or Celery: the next worker must not go through
            # the same. (Kombu would take a KeyError for a lost connection, and try for ever.)
            logger.exception("A message of %s cannot be delivered.", queue)
            if self.leases.is_open(tag):
                self.leases.bury(tag, f"The message cannot be delivered: {error!r}"[:1000])
                VirtualQoS.ack(self.qos, tag)
        finally:
            self.qos.delivering = False
            self.qos.bury_rejected()
        if queue in self._no_ack_queues:
            self.leases.acknowledge(tag)

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,
        callback: Callable[[Any], Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Start a consumer whose callback sees only messages that can be decoded."""
        if queue in self._fanout_queues:
            return super().basic_consume(queue, no_ack, callback, *args, **kwargs)
        if no_ack:
            self._no_ack_queues.add(queue)
        else:
            self._no_ack_queues.discard(queue)

        def decoded(message: Any) -> Any:
            # Celery acknowledges what it cannot decode and tells nobody. Celery decodes it
            # anyway, and the message keeps the outcome. Other formats it may not be allowed to.
            if message.errors:
                raise messages.UnreadableMessageError(repr(message.errors[0][1]))
            if message.content_type == "application/json":
                messages.decode_body(message)
            return callback(message)

        return super().basic_consume(queue, no_ack, decoded, *args, **kwargs)

    def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
        try:
            return super()._deliver_fanout_message(message, exchange)
        except (KeyError, TypeError, ValueError, AttributeError):
            logger.exception("A broadcast on %s cannot be delivered; it is dropped.", exchange)
            return False
