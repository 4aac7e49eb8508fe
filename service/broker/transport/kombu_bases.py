"""Kombu's Redis transport as bases without types: its stubs lack most of what is overridden here.

tests/unit/seams/test_kombu_seams.py holds in place what this package overrides and calls of it.
"""

from typing import Any

from kombu.transport import redis, virtual

RedisChannel: Any = redis.Channel
RedisSentinelChannel: Any = redis.SentinelChannel
RedisTransport: Any = redis.Transport
RedisPoller: Any = redis.MultiChannelPoller
RedisQoS: Any = redis.QoS
VirtualChannel: Any = virtual.Channel
VirtualQoS: Any = virtual.QoS
