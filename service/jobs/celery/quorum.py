"""What jobs need on RabbitMQ: quorum queues, an exchange for dead letters, delayed delivery.

Whoever publishes to a queue or consumes from it declares all of it first.
"""

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

from amqp.exceptions import NotFound, PreconditionFailed
from celery.app.amqp import Queues
from kombu import Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

AMQP_SCHEMES: Final = ("amqp", "amqps", "pyamqp", "pyamqps")
QUORUM: Final = "quorum"
# Celery publishes a job with an ETA under a key of 28 bits, the seconds to wait, and the queue's.
_DELAY: Final = re.compile(r"(?:[01]\.){28}")
# The longest that every version of RabbitMQ takes: the time until a job is acknowledged.
_CONSUMER_TIMEOUT: Final = (1 << 31) - 1  # milliseconds: nearly 25 days
# Of deliveries of a dead letter: where there are 20, as RabbitMQ 4 has it, an outage of Redis
# would have it dropped, for each worker returns it once in a second.
_NO_LIMIT: Final = (1 << 31) - 1


class DeclaredOtherwiseError(PreconditionFailed):
    """RabbitMQ has a queue or an exchange of this name that was declared with other arguments."""

    def __str__(self) -> str:
        return str(self.reply_text)


class QuorumQueue(Queue):
    """A quorum queue, whose dead letters and delays are declared with it."""

    def declare(self, nowait: bool = False, channel: Any = None) -> str:
        """Declare it, and all that it needs. Raises DeclaredOtherwiseError."""
        channel = channel or self.channel
        dead = dead_letter_queue((self.queue_arguments or {})["x-dead-letter-exchange"])
        try:
            # First, so that nothing else is there where an earlier setup has the queue.
            self.queue_declare(channel=channel)
            dead(channel).declare(nowait=nowait)
            name = str(super().declare(nowait=nowait, channel=channel))
            _delay_jobs_of(channel.connection.client, self)
        except PreconditionFailed as error:
            text = (
                f"{error}. RabbitMQ has it from an earlier setup: of Celery's own classic queues,"
                " or with another SERVICE_MAX_DELIVERIES. Let workers of that setup empty the queue"
                f" {self.name!r}, then delete it and the exchange {self.exchange.name!r}; or, to"
                " keep Celery's own queues, set SERVICE_CELERY__TASK_DEFAULT_QUEUE_TYPE=classic."
            )
            raise DeclaredOtherwiseError(text, error.method_sig, error.method_name) from error
        return name


class QuorumQueues(Queues):
    """Celery's queues, each of which is a quorum queue unless it says otherwise."""

    def __init__(self, *args: Any, max_deliveries: int, dead_letters: str, **options: Any) -> None:
        # Before Celery's constructor, which adds queues.
        self._max_deliveries, self._dead_letters = max_deliveries, dead_letters
        super().__init__(*args, **options)

    def __setitem__(self, name: str, queue: Queue) -> None:
        self._complete(queue)
        super().__setitem__(name, queue)

    def named(self, routing_key: str) -> str:
        """The name of the queue that a message with this routing key came from."""
        key = without_delay(routing_key)
        if key in self:
            return key
        return next((queue.name for queue in self.values() if queue.routing_key == key), key)

    def _complete(self, queue: Queue) -> None:
        given = dict(queue.queue_arguments or {})
        can_be = queue.durable and not queue.exclusive and not queue.auto_delete
        # Another class is one of Kombu's broadcasts, or the user's own.
        if type(queue) is Queue and can_be and given.get("x-queue-type", QUORUM) == QUORUM:
            queue.__class__ = QuorumQueue
            if queue.exchange.type == "direct":
                queue.exchange.type = "topic"  # the keys of queues mean the same; it can delay
            queue.queue_arguments = {
                "x-queue-type": QUORUM,
                "x-delivery-limit": self._max_deliveries - 1,  # those after the first
                "x-dead-letter-exchange": self._dead_letters,
                # Else a dead letter may be lost where its leader is away.
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
                **given,
            }
        queue.consumer_arguments = {
            "x-consumer-timeout": _CONSUMER_TIMEOUT,
            **(queue.consumer_arguments or {}),
        }


def _with_only(channel: Any) -> Any:
    """A connection that has this channel alone: Kombu opens one each time, and closes none."""
    return SimpleNamespace(channel=lambda: channel)


def dead_letter_queue(name: str) -> Queue:
    """The queue of dead letters, which has the name of its exchange."""
    exchange = Exchange(name, type="fanout")
    arguments = {"x-queue-type": QUORUM, "x-delivery-limit": _NO_LIMIT}
    return Queue(name, exchange, queue_arguments=arguments)


def uses_quorum_queues(conf: Mapping[str, Any]) -> bool:
    """Whether the broker is RabbitMQ, and Celery's own classic queues were not asked for."""
    scheme = str(conf.get("broker_url")).partition(":")[0]
    return scheme in AMQP_SCHEMES and conf.get("task_default_queue_type") == QUORUM


def dead_letters_name(conf: Mapping[str, Any]) -> str:
    """What the exchange of dead letters, and its queue, are named."""
    return f"{conf['task_default_queue']}.dead"


def without_delay(routing_key: str) -> str:
    """The routing key of a job's queue, also where it was published to be delayed."""
    found = _DELAY.match(routing_key)
    return routing_key[found.end() :] if found else routing_key


def declare_delays(connection: Any) -> None:
    """Declare all through which a job with an ETA goes before it comes to its queue."""
    with connection.channel() as channel:
        declare_native_delayed_delivery_exchanges_and_queues(_with_only(channel), QUORUM)


def _delay_jobs_of(connection: Any, queue: Queue) -> None:
    """Have jobs with an ETA be delayed, unless that was declared before, and come to the queue."""
    exchange = Exchange(CELERY_DELAYED_DELIVERY_EXCHANGE, type="topic")  # it is declared last
    try:
        with connection.channel() as channel:
            exchange(channel).declare(passive=True)
    except NotFound:
        declare_delays(connection)
    with connection.channel() as channel:
        bind_queue_to_native_delayed_delivery_exchange(_with_only(channel), queue)
