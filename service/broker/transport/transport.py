"""Names the transports that Celery is pointed at by `broker_transport`."""

import logging
import time
from queue import Empty
from typing import Any, ClassVar

from redis import Connection, SSLConnection
from redis.exceptions import ResponseError

from service.broker import celery_worker
from service.broker.leases.registry import keys_of
from service.broker.scripts import text
from service.broker.transport.channel import Channel
from service.broker.transport.kombu_bases import RedisPoller, RedisSentinelChannel, RedisTransport
from service.broker.transport.waiter import ASK_AGAIN, WaiterState
from service.redis import cluster
from service.redis.keys import RECORD

logger = logging.getLogger(__name__)

# A script, a write and a publish; no tag, and no id of a job, is empty. Who may not use the channel
# of jobs may have others, so that an error of the publish is an answer.
_CHANGE_NOTHING = """
redis.call('ZADD', KEYS[1], 'XX', 0, '')
local told = redis.pcall('PUBLISH', ARGV[1], '')
return type(told) == 'table' and told['err'] or ''
"""
_MAY_NOT_RUN = ("to run the 'publish' command", "can't run this command")  # since 7.0; before


class SentinelChannel(Channel, RedisSentinelChannel):  # type: ignore[misc]  # Any: see kombu_bases
    """The same behind Redis Sentinel."""

    from_transport_options = (
        *Channel.from_transport_options,
        *RedisSentinelChannel.from_transport_options,
    )
    connection_class = RedisSentinelChannel.connection_class
    connection_class_ssl = RedisSentinelChannel.connection_class_ssl


class ClusterChannel(Channel):
    """The same in one hash slot of a Redis Cluster."""

    connection_class = cluster.in_cluster(cluster.HashSlotConnection, Connection)
    connection_class_ssl = cluster.in_cluster(cluster.HashSlotConnection, SSLConnection)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params = super()._connparams(asynchronous)
        nodes = self.connection.client.alt or [f"//{params['host']}:{params['port']}"]
        hash_slot = cluster.HashSlot.at(";".join(nodes), keys_of(self).in_flight[1])
        return {**params, "hash_slot": hash_slot}


class Poller(RedisPoller):  # type: ignore[misc]  # Any: see kombu_bases
    """Kombu's poller, for connections on which the server also speaks unasked."""

    hub: Any = None  # Celery's event loop, where there is one
    _wakes_at = 0.0

    def wake_in(self, seconds: float) -> None:
        """Have the event loop look here again then: else it may sleep for a second."""
        now = time.monotonic()
        if self.hub is not None and not now < self._wakes_at <= now + seconds:
            self._wakes_at = now + seconds
            self.hub.call_later(seconds, bool)

    def on_readable(self, fileno: int) -> Any:
        """Let the channel read; without room for messages, read a reply under way, or drop pushes.

        Kombu would take a push for the end of the connection.
        """
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind != "BRPOP" or fileno in self._paused_brpop or channel.qos.can_consume():
            return super().on_readable(fileno)
        if channel.waiter.state is WaiterState.TAKING:
            return channel.handlers[kind]()
        if channel.waiter.expects_reply:
            return super().on_readable(fileno)
        channel.drop_pushes()
        raise Empty

    def _pause_brpop(self, channel: Any, fileno: int) -> None:
        # Kombu leaves a reply unread while there is no room (a scheduled job may have become due
        # since it was asked for). But what a take has brought is held for us from then on, and
        # its lease would not be renewed.
        if channel.waiter.state is not WaiterState.TAKING:
            super()._pause_brpop(channel, fileno)

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Wait for a message where there is no event loop, until a waiter has to ask again."""
        bounded = ASK_AGAIN if timeout is None else min(timeout, ASK_AGAIN)
        for channel in self._channels:
            if channel.waiter.state is WaiterState.ACTIVE:
                bounded = min(bounded, channel.waiter.patience)
        return super().get(callback, bounded)


class Transport(RedisTransport):  # type: ignore[misc]  # Any: see kombu_bases
    """`redis://`: what `broker_transport` names for a plain server."""

    Channel = Channel
    takes_several = False  # addresses
    # The brokers that this process was allowed to publish on. Who never was may well do without.
    _published: ClassVar[set[str]] = set()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.cycle = Poller()
        if client.cycle is not None:
            # Kombu's failover takes the transport from the scheme of the next address: it would
            # silently go on with the stock transport.
            client.cycle = None
            if not self.takes_several:
                logger.warning("Only the first Redis address is used; for several use sentinel://.")

    def establish_connection(self) -> Any:
        """Connect, and try a script that changes nothing; raises ResponseError where it is refused.

        Celery then pauses and tries again. Else it would go on to steps that write, and each one
        that is refused would have the whole worker connect anew, at once; a broadcast that is
        refused would end it. So too a worker that may open too few files for those steps: OSError.
        """
        if celery_worker.is_worker():
            celery_worker.require_descriptors()
        connection = super().establish_connection()
        channel = self._avail_channels[-1]
        try:
            # Kombu's client does not put the keys' prefix before that of a script.
            keys = keys_of(channel)
            given = (keys.in_flight[1], keys.prefix + RECORD)
            self._note_publish(text(channel.client.eval(_CHANGE_NOTHING, 1, *given)))
            # Most channels never wait for messages, and so have no use for this connection.
            channel.async_pool.disconnect()
        except Exception:
            self._avail_channels.remove(channel)
            channel.close()
            raise
        return connection

    def _note_publish(self, refusal: str) -> None:
        """Raise ResponseError where this process has lost the right to publish, or needs it."""
        broker = self.client.as_uri()
        if not any(words in refusal for words in _MAY_NOT_RUN):
            self._published.add(broker)
        elif broker in self._published or celery_worker.has_to_publish():
            raise ResponseError(refusal)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have Celery's event loop read what the connection brings."""
        self.cycle.hub = loop
        super().register_with_event_loop(connection, loop)


class SecureTransport(Transport):
    """`rediss://`: TLS; the server's certificate is verified unless the address says otherwise."""

    def __init__(self, client: Any, **kwargs: Any) -> None:
        # Kombu turns TLS on by the name of its own transport, and then without verification.
        if not isinstance(client.ssl, dict) or not client.ssl:
            client.ssl = {"ssl_cert_reqs": "required"}
        super().__init__(client, **kwargs)


class SentinelTransport(Transport):
    """`sentinel://`: the master that the sentinels agree on; needs the option `master_name`."""

    Channel = SentinelChannel
    default_port = 26379
    takes_several = True


class ClusterTransport(Transport):
    """`redis-cluster://`: the node that has the keys, by the hash tag in `global_keyprefix`."""

    Channel = ClusterChannel
    takes_several = True


class SecureClusterTransport(SecureTransport):
    """`rediss-cluster://`: the same by TLS."""

    Channel = ClusterChannel
    takes_several = True
