"""The Kombu transport that loses nothing; Celery finds it by `broker_transport`.

    transport.py    the transports, and the poller that lets Kombu's hub see pushes
    channel.py      Channel: takes messages, in place of Kombu's BRPOP
    pools.py        the connections that all channels of a process share
    publish.py      its base: publishes, so that a retry adds no second message
    waiter.py       a consuming connection's state: idle, taking, active, standby
    deliver.py      a channel's part: messages taken and not yet given to a consumer
    qos.py          a channel's account of deliveries, which Celery acknowledges and rejects by
    consumer.py     Celery's consumer, which acknowledges at once
    kombu_bases.py  Kombu's classes as bases without types

A message: the hub finds the connection readable → Poller → Channel → Waiter reads what was taken →
Deliverer has the leases hold it, and hands it to Celery → Celery acknowledges by LeasedQoS → the
leases tell Redis, with the next take or soon after.

May import leases and what lies beside both rooms. No threads: all runs in Celery's main thread.
"""

from service.broker.transport.transport import (
    ClusterTransport,
    SecureClusterTransport,
    SecureTransport,
    SentinelTransport,
    Transport,
)

__all__ = [
    "ClusterTransport",
    "SecureClusterTransport",
    "SecureTransport",
    "SentinelTransport",
    "Transport",
]
