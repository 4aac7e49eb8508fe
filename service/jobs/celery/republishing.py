"""Publishes a stored message to RabbitMQ once more: a dead letter that is replayed, for one."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from amqp.exceptions import ChannelError, MessageNacked
from kombu.exceptions import OperationalError

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.connections import open_confirming
from service.jobs.celery.quorum import uses_quorum_queues

_PROPERTIES: Final = ("correlation_id", "reply_to", "priority", "delivery_mode")


def republish(
    celery: QuartCelery, queue: str, message: bytes, *, headers: Mapping[str, Any] | None = None
) -> None:
    """Publish to a queue, with these headers besides, and wait until RabbitMQ has confirmed it.

    `message` is in the form of Kombu's Redis transport. Raises OSError, or an error
    of amqp or Kombu.
    """
    payload = json.loads(message)
    properties = payload["properties"]
    timeout: Any = celery.conf.broker_connection_timeout
    with open_confirming(celery, timeout) as connection:
        target: Any = celery.amqp.queues[queue]
        celery.amqp.Producer(connection, auto_declare=False).publish(
            b64decode(payload["body"]),
            content_type=payload["content-type"],
            content_encoding=payload["content-encoding"],
            headers={**payload["headers"], **(headers or {})},
            exchange=target.exchange.name,
            routing_key=target.routing_key,
            declare=[target],
            mandatory=True,
            timeout=timeout,
            confirm_timeout=timeout,
            **{name: properties[name] for name in _PROPERTIES if name in properties},
        )


def publish_by(celery: QuartCelery) -> Callable[[str, bytes], Awaitable[None]] | None:
    """What replays dead letters to RabbitMQ, if that is the broker.

    It raises BrokerUnavailableError.
    """
    if not uses_quorum_queues(celery.conf):
        return None

    async def publish(queue: str, message: bytes) -> None:
        try:
            await asyncio.to_thread(republish, celery, queue, message)
        except (ChannelError, MessageNacked, OperationalError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise BrokerUnavailableError(reason, maybe_accepted=True, server="RabbitMQ") from error

    return publish
