"""Takes messages the way Kombu's Redis channels do, but loses none."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from service.broker import celery_worker
from service.broker.leases.in_flight import Outcome
from service.broker.leases.leases import Leases
from service.broker.leases.registry import leases_of
from service.broker.scripts import QueueList, Take, Taken
from service.broker.transport.deliver import Deliverer, decode_first
from service.broker.transport.kombu_bases import RedisChannel, VirtualChannel
from service.broker.transport.publish import PublishingChannel
from service.broker.transport.qos import LeasedQoS
from service.broker.transport.waiter import Waiter, WaiterState, drop_pushes

logger = logging.getLogger(__name__)

_BATCH = 200
_OF_PATTERNS = frozenset("*?[\\")  # the signs that make a channel's name a pattern to Redis
# How long a process that ends may take to tell Redis what it has not begun and what it has done.
_CLOSE_TIMEOUT = 5.0


class Channel(PublishingChannel):
    """A Kombu Redis channel whose messages are always either queued or held under a lease."""

    QoS = LeasedQoS
    # Kombu's default is to wait for ever on a server that is connected but silent.
    socket_timeout = 10.0
    socket_connect_timeout = 5.0

    #: Seconds for which a message is held without renewal.
    lease = 30.0
    #: Deliveries without an end after which a message is a dead letter.
    max_deliveries = 5
    #: Longer messages are dead letters; 0 means no limit.
    max_message_bytes = 8 * 1024 * 1024
    #: Called (or the dotted path of what is called) with tag and job id when a lease was lost.
    on_lease_lost: str | Callable[[str, str | None], object] | None = None

    from_transport_options = (
        *(o for o in RedisChannel.from_transport_options if o != "ack_emulation"),
        "lease",
        "max_deliveries",
        "max_message_bytes",
        "on_lease_lost",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.deliverer = Deliverer(self)
        self.waiter = Waiter()
        self._pid = os.getpid()
        self._polling: Any = None
        super().__init__(*args, **kwargs)

    # What this channel shares with the rest of the process.

    @property
    def leases(self) -> Leases:
        """The leases of this process on this channel's broker."""
        leases: Leases | None = self.qos.leases
        if leases is None:
            leases = self.qos.leases = leases_of(self)
            leases.holders.add(self.qos)
        return leases

    # Taking. Kombu's poller calls these by the names of the BRPOP that they replace.

    @property
    def _in_poll(self) -> Any:
        """The connection that will become readable; none when there is something to send."""
        return None if self.waiter.is_to_ask_again else self._polling

    @_in_poll.setter
    def _in_poll(self, connection: Any) -> None:
        self._polling = connection
        if not connection:
            self.waiter.reset_wait()

    def _brpop_start(self, timeout: float | None = None) -> None:
        leases = self.leases
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues or leases.quarantine.pauses:
            return
        self.deliverer.backlog.extend(leases.adopt(queues))
        if self.deliverer.backlog:
            self.deliverer.deliver()
            if not self.qos.can_consume():
                return
        connection = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self.waiter.begin(connection, self._take(queues, self.qos.free(_BATCH)), leases.in_flight)
        self._polling = connection

    def _brpop_read(self, **options: Any) -> bool:
        taken = self._read_waiter()
        if taken is None:
            raise Empty
        if time.monotonic() - self._brpop_sent_at > self.leases.options.lease / 3:
            taken = self.leases.still_held(taken)
        if self.waiter.state is WaiterState.ACTIVE:
            self.connection.cycle.wake_in(self.waiter.patience)
        self.deliverer.enter(taken)
        if not self.deliverer.backlog:
            raise Empty  # else a caller with a time limit, as `inspect`, would begin it anew
        self.deliverer.deliver()
        self.deliverer.return_backlog()
        return True

    def _read_waiter(self) -> Taken | None:
        connection, expects_reply = self.client.connection, self.waiter.expects_reply
        try:
            return self.waiter.finish(connection)
        except ResponseError as error:
            # A demoted master, a server that cannot write: asking again at once will not help,
            # a new connection, after Celery's pause, may.
            self._hang_up()
            raise RedisConnectionError(f"Redis refused to hand out messages: {error}") from error
        except self.connection_errors as error:
            self._hang_up()
            if expects_reply:
                raise
            # The server has closed the connection, as an idle one: Kombu's poller makes another.
            logger.debug("The connection that waits for messages was closed: %s", error)
            return None
        finally:
            self._polling = connection if self.waiter.state is WaiterState.ACTIVE else None
            self._flush_brpop_reauth()

    def _hang_up(self) -> None:
        self.waiter.reset()
        self.client.connection.disconnect()

    def drop_pushes(self) -> None:
        """Read what the server says unasked while there is no room for messages."""
        try:
            drop_pushes(self.client.connection)
        except self.connection_errors:
            self._hang_up()

    def deliver_now(self, queues: list[str], limit: int) -> int:
        """Deliver what there is now to the consumers of these queues, without waiting; how much."""
        taken = self.leases.scripts.take(self._take(queues, limit))
        self.deliverer.enter(taken)
        self.deliverer.deliver()
        return len(taken.deliveries) + len(taken.unusable)

    def _take(self, queues: list[str], free: int) -> Take:
        lists = tuple(
            QueueList(self._q_for_pri(queue, step), queue)
            for step in self.priority_steps
            for queue in queues
        )
        leases, max_bytes = self.leases, int(self.max_message_bytes)
        return Take(leases.scripts.keys, lists, free, max_bytes, leases.options.lease)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Start a consumer whose callback sees only messages that can be decoded."""
        if queue not in self._fanout_queues:
            callback = decode_first(callback)
            no_ack_queues = self.deliverer.no_ack_queues
            (no_ack_queues.add if no_ack else no_ack_queues.discard)(queue)
        return super().basic_consume(queue, no_ack, callback, *args, **kwargs)

    # Broadcasts. Kombu subscribes to all of them as patterns. Redis lets a user do so only where
    # the user's rights have the very same pattern: `&app:*` allows the channel `app:x`, but no
    # pattern `app:x`.

    def _subscribe(self) -> None:
        queues = self.active_fanout_queues
        if topics := [topic for queue in queues for topic in self._get_subscribe_topics(queue)]:
            client = self.subclient
            if client.connection._sock is None:  # noqa: SLF001 - as Kombu does
                client.connection.connect()
            self._in_listen = client.connection
            for topic in topics:
                (client.psubscribe if _is_pattern(topic) else client.subscribe)(topic)

    def _unsubscribe_from(self, queue: str) -> None:
        client = self.subclient
        if client.connection and client.connection._sock:  # noqa: SLF001 - as above
            for topic in self._get_subscribe_topics(queue):
                (client.punsubscribe if _is_pattern(topic) else client.unsubscribe)(topic)

    def _deliver_fanout_message(self, message: Any, exchange: str) -> Any:
        try:
            return super()._deliver_fanout_message(message, exchange)
        except (KeyError, TypeError, ValueError, AttributeError):
            logger.exception("A broadcast on %s cannot be delivered; it is dropped.", exchange)
            return False

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Take one message now, if there is one."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if no_ack and message is not None:
            self.leases.dispose(Outcome.ACK, message.delivery_tag)
        return message

    def _get(self, queue: str) -> Any:
        taken = self.leases.scripts.take(self._take([queue], 1))
        with self.conn_or_acquire() as client:
            self._maybe_update_queues_expire(client, queue)
        self.deliverer.enter(taken)
        if not self.deliverer.backlog:
            raise Empty
        delivery = self.deliverer.backlog.pop()
        payload = loads(delivery.message.decode())
        payload["properties"]["delivery_tag"] = delivery.tag
        return payload

    def _purge(self, queue: str) -> int:
        purged: int = super()._purge(queue)
        return purged + self.leases.scripts.drop_beside(queue)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        self.leases.scripts.drop_beside(queue)

    # Ending.

    def close(self) -> None:
        """Close, however broken the connection is."""
        if self.closed or os.getpid() != self._pid:
            return  # Kombu would ask a connection that it has let go of, or its parent's
        if self.waiter.state is WaiterState.TAKING:
            # Learn what the take has brought, so that it need not wait for its lease. Where this
            # fails no process holds what was taken: it is recovered after the lease.
            with suppress(RedisError, OSError, AttributeError):
                taken = self.waiter.finish(self.client.connection, timeout=1.0)
                if taken is not None:
                    self.deliverer.enter(taken)
        self.waiter.reset()
        self._polling = None
        try:
            super().close()
        except (RedisError, OSError, AttributeError, KeyError) as error:
            logger.debug("A channel was closed the hard way: %s", error)
            self._disconnect_pools()
            self._close_clients()
            VirtualChannel.close(self)
        leases = self._qos.leases if self._qos is not None else None
        if leases is not None and not celery_worker.is_serving():
            leases.close(_CLOSE_TIMEOUT)  # acks too: a process that ends may have no other moment


def _is_pattern(topic: str) -> bool:
    return not _OF_PATTERNS.isdisjoint(topic)
