"""Names the transports that Celery is pointed at by `broker_transport`."""

import logging
from queue import Empty
from typing import Any

from service.broker.transport.channel import Channel
from service.broker.transport.kombu_bases import RedisPoller, RedisSentinelChannel, RedisTransport
from service.broker.transport.waiter import ASK_AGAIN, WaiterState

logger = logging.getLogger(__name__)


class SentinelChannel(Channel, RedisSentinelChannel):  # type: ignore[misc]  # Any: see kombu_bases
    """The same behind Redis Sentinel."""

    from_transport_options = (
        *Channel.from_transport_options,
        *RedisSentinelChannel.from_transport_options,
    )
    connection_class = RedisSentinelChannel.connection_class
    connection_class_ssl = RedisSentinelChannel.connection_class_ssl


class Poller(RedisPoller):  # type: ignore[misc]  # Any: see kombu_bases
    """Kombu's poller, for connections on which the server also speaks unasked."""

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
        """Wait for a message where there is no event loop; a waiter asks again every second."""
        bounded = ASK_AGAIN if timeout is None else min(timeout, ASK_AGAIN)
        return super().get(callback, bounded)


class Transport(RedisTransport):  # type: ignore[misc]  # Any: see kombu_bases
    """`redis://`: what `broker_transport` names for a plain server."""

    Channel = Channel
    sentinels = False

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.cycle = Poller()
        if client.cycle is not None:
            # Kombu's failover takes the transport from the scheme of the next address: it would
            # silently go on with the stock transport.
            client.cycle = None
            if not self.sentinels:
                logger.warning("Only the first Redis address is used; for several use sentinel://.")


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
    sentinels = True
