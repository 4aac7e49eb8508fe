"""Publishes messages; a publish that has to be tried again adds no second one."""

import threading
from collections import OrderedDict
from copy import copy
from functools import partial
from typing import Any, Final

from kombu.utils.json import dumps
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.broker.leases.registry import keys_of
from service.broker.scripts import Scripts
from service.broker.transport.kombu_bases import RedisChannel
from service.broker.transport.pools import MAX_CONNECTIONS, POOLS
from service.redis.clients import DRIVER
from service.redis.countdown import without_countdown

_REMEMBERED: Final = 1000


class Publishes:
    """Remembers which properties got which tag; Kombu passes the same dict to each try.

    Only the same dict counts: a caller who publishes a received message again, with a copy of its
    properties, wants a second message.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def tag_of(self, properties: dict[str, Any]) -> str | None:
        """The tag of an earlier try of this publish."""
        tag = properties.get("delivery_tag")
        with self._lock:
            return tag if tag is not None and self._seen.get(tag) is properties else None

    def remember(self, properties: dict[str, Any]) -> None:
        """Remember a publish with these properties, which is under way."""
        with self._lock:
            self._seen[properties["delivery_tag"]] = properties
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def forget(self, properties: dict[str, Any]) -> None:
        """Forget a publish that has arrived: there will be no other try."""
        with self._lock:
            self._seen.pop(properties.get("delivery_tag", ""), None)


# Of the process: a retry comes on another channel, and another transport, if the first was lost.
_publishes = Publishes()


class PublishingChannel(RedisChannel):  # type: ignore[misc]  # Any: see kombu_bases
    """A Kombu Redis channel that publishes by put.lua, on connections that all channels share."""

    _pool: Any
    _publisher: tuple[Any, Scripts] | None = None

    def lease_pool(self, timeout: float) -> Any:
        """A pool of connections for the leases: it fails fast."""
        timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout)
        pool = self._lasting_pool(max_connections=8, **timeouts)
        pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
        return pool

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # for the connections that wait
            return super()._get_pool(asynchronous)
        given = self.connection.client.transport_options.get("max_connections", MAX_CONNECTIONS)
        return POOLS.borrow(self, partial(self._lasting_pool, max_connections=given))

    def _lasting_pool(self, **options: Any) -> Any:
        """A pool that outlives the channel."""
        twin: Any = copy(self)  # a pool's sentinels are closed with the channel that made it
        vars(twin).update(options)
        return super(PublishingChannel, twin)._get_pool()

    def _disconnect_pools(self) -> None:
        if self._pool is not None:
            POOLS.give_back(self, self._pool)
            self._pool = None
        super()._disconnect_pools()

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), "driver_info": DRIVER}

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **kwargs: Any) -> Any:
        """Publish; a retry after an unclear failure does not make a second copy."""
        result = super().basic_publish(message, exchange, routing_key, **kwargs)
        _publishes.forget(message["properties"])
        return result

    def _inplace_augment_message(self, message: Any, exchange: str, routing_key: str) -> None:
        properties = message["properties"]
        first = _publishes.tag_of(properties)
        super()._inplace_augment_message(message, exchange, routing_key)
        if first is not None:
            properties["delivery_tag"] = first
        _publishes.remember(properties)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        message, countdown = without_countdown(message)
        if kwargs.get("_publish_batch") is not None or queue in self._expires:
            super()._put(queue, message, **kwargs)
            return
        pool = self.pool
        if self._publisher is None or self._publisher[0] is not pool:
            self._publisher = pool, Scripts(Redis(connection_pool=pool), keys_of(self))
        list_ = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        tag = message["properties"]["delivery_tag"]
        self._publisher[1].put(tag, queue, list_, dumps(message), countdown)
