"""The Celery app's connections to its broker; and remote control, which blocks no event loop."""

import logging
import time
from collections.abc import Callable
from functools import partial
from inspect import signature
from itertools import count
from typing import Any, Final

from amqp.exceptions import MessageNacked, RecoverableConnectionError
from celery.app import amqp
from celery.app.control import Control as CeleryControl
from kombu import Connection, Producer
from kombu.pools import producers

from service.jobs.celery.capture import MadeMessage, PublishCapture, copied
from service.jobs.celery.patience import patiently
from service.jobs.celery.quorum import QuorumQueues, dead_letters_name, uses_quorum_queues
from service.jobs.celery.settings import TRANSPORTS

logger: Final = logging.getLogger(__name__)

# Seconds between two attempts to connect.
_PAUSES: Final = {"interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5}
# Seconds before a message that RabbitMQ has not taken is published again; twice as long, twice.
_NACK_PAUSE: Final = 0.2
_NACK_DOUBLINGS: Final = 2
# Of the time for connecting: what one node may take, so that there is time for a second.
CONNECT_SHARE: Final = 0.5
COPY: Final = "x-published-again"  # header of a message that RabbitMQ may have already

_RETRY: Final = -2  # where Kombu's `_publish` has `retry` among its arguments


class _Connection(Connection):
    """A connection that is soon back, and whose address begins with the scheme that the user gave.

    Kombu puts the transport's dotted path there, which Flower, for one, does not know.
    """

    def ensure_connection(
        self, errback: Callable[..., object] | None = None, *args: Any, **options: Any
    ) -> Any:
        """Kombu's own with shorter pauses: its last ones are of 30 s, though the broker is back.

        `errback`, which logs, is called at the 1st, 2nd, 4th, 8th … attempt.
        """
        attempts = count(1)

        def seldom(error: Exception, interval: float) -> None:
            attempt = next(attempts)
            if errback is None or attempt & (attempt - 1):
                return
            try:
                errback(error, interval)
            except OSError:
                # Celery's asks for the address, and so for a transport, which needs a descriptor.
                logger.error("Cannot connect to the broker: %s", error)  # noqa: TRY400  one line

        return super().ensure_connection(seldom, *args, **{**_PAUSES, **options})

    def ensure(
        self,
        obj: Any,
        fun: Callable[..., Any],
        errback: Callable[..., object] | None = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Kombu's own with a pause after a message that RabbitMQ has not taken.

        Its queue may have lost its leader: Kombu would try four times within milliseconds.
        """
        attempts = count()

        def pause(error: Exception, interval: float) -> None:
            if isinstance(error, MessageNacked):
                time.sleep(_NACK_PAUSE * 2 ** min(next(attempts), _NACK_DOUBLINGS))
            if errback is not None:
                errback(error, interval)

        return super().ensure(obj, fun, pause, *args, **options)

    def as_uri(self, *args: Any, **options: Any) -> str:
        """The broker's address."""
        uri = str(super().as_uri(*args, **options))
        for scheme, path in TRANSPORTS.items():
            if uri.startswith(f"{path}:"):
                return scheme + uri.removeprefix(path)
        return uri


class MarkingProducer(Producer):
    """Marks a message that is published again where RabbitMQ has not confirmed it.

    A worker drops the one of two that comes second.
    """

    connection: Any

    def _publish(
        self, body: Any, priority: Any, content_type: Any, encoding: Any, headers: Any, *args: Any
    ) -> Any:
        try:
            return super()._publish(body, priority, content_type, encoding, headers, *args)
        except MessageNacked:
            self.connection.collect()  # a channel may ask the dead leader of a queue for ever
            raise
        except (OSError, RecoverableConnectionError):  # it says nothing, or it stops
            headers[COPY] = True  # Kombu and Celery try again with the same headers
            # What comes next on this channel would be taken for the answer to the next message.
            self.connection.collect()
            is_switched_by_kombu = args[_RETRY]
            if not is_switched_by_kombu:
                self.connection.maybe_switch_next()  # this node may be cut off from the others
            raise


class AMQP(amqp.AMQP):
    """Celery's own, with these connections; on RabbitMQ with quorum queues."""

    Connection = _Connection
    app: Any
    queues_cls: Any
    _producer_pool: Any = None

    def Queues(self, *args: Any, **options: Any) -> Any:  # noqa: N802  Celery's name
        """Celery's own."""
        if not uses_quorum_queues(self.app.conf):
            return super().Queues(*args, **options)
        self.queues_cls = partial(
            QuorumQueues,
            max_deliveries=self.app.max_deliveries,
            dead_letters=dead_letters_name(self.app.conf),
        )
        return super().Queues(*args, **options)

    def _retry_publish(self, *args: Any, **options: Any) -> Any:
        """Celery's own, by which a worker publishes the jobs that follow from one."""
        with patiently():
            return super()._retry_publish(*args, **options)  # type: ignore[misc]  # not in celery-types

    def _create_task_sender(self) -> Any:
        """Celery's own; a capture is told what its receivers are about to see."""
        send: Any = super()._create_task_sender()  # type: ignore[misc]  # not in celery-types
        named = signature(send).parameters

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if isinstance(producer, PublishCapture):
                more = {key: value for key, value in options.items() if key not in named}
                headers = {**message.headers, **(options.get("headers") or {})}
                producer.made = MadeMessage(copied(headers), {**message.properties, **more})
            return send(producer, name, message, **options)

        return send_task_message

    @property
    def producer_pool(self) -> Any:
        """Celery's own; RabbitMQ confirms what `delay()`, retries and workers publish by it."""
        if self._producer_pool is None and uses_quorum_queues(self.app.conf):
            confirmed = {"confirm_publish": True}
            connection = self.app.connection_for_write(transport_options=confirmed)
            self._producer_pool = producers[connection]
            self._producer_pool.Producer = MarkingProducer
            self._producer_pool.limit = self.app.pool.limit
        return super().producer_pool


def open_confirming(celery: Any, timeout: float) -> Any:
    """A new connection, on which RabbitMQ confirms messages. It is open within `timeout` seconds.

    Blocks. Raises Kombu's OperationalError, or OSError.
    """
    connection = celery.connection_for_write(
        connect_timeout=CONNECT_SHARE * timeout, transport_options={"confirm_publish": True}
    )
    return connection.ensure_connection(max_retries=len(connection.alt) or 1, timeout=timeout)


class Control(CeleryControl):
    """Asks the workers in a thread where the caller runs on the event loop."""

    app: Any

    def broadcast(self, *args: Any, **options: Any) -> Any:
        """Celery's own: all but `purge` ends here."""
        return self.app.off_loop(partial(super().broadcast, *args, **options))

    def purge(self, *args: Any, **options: Any) -> Any:
        """Celery's own."""
        return self.app.off_loop(partial(super().purge, *args, **options))

    discard_all = purge
