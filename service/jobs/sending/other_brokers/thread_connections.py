"""Kombu's connections to the broker: one for each thread that publishes. Its methods block."""

import threading
from typing import Any

from kombu.exceptions import OperationalError

from service.errors import BrokerUnavailableError
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall
from service.jobs.celery.connections import open_confirming


class ThreadConnections:
    """Those of one publisher."""

    def __init__(self, celery: QuartCelery, server: str, timeout: float) -> None:
        """`server` is how errors name the broker."""
        self._celery, self._server, self._timeout = celery, server, timeout
        self._of_thread = threading.local()
        self._connections: list[Any] = []

    def publish(self, call: PublishCall) -> None:
        """Publish and wait for the confirmation, on the connection of this thread.

        Raises BrokerUnavailableError.
        """
        if getattr(self._of_thread, "producer", None) is None:
            connection = self.connect()
            self._of_thread.producer = self._celery.amqp.Producer(connection, auto_declare=False)
            self._connections.append(connection)
        producer = self._of_thread.producer
        options = {**call.options, "timeout": self._timeout, "confirm_timeout": self._timeout}
        try:
            producer.publish(call.body, **options)
        except Exception as error:
            self._of_thread.producer = None
            self._connections.remove(producer.connection)
            producer.connection.collect()
            raise self._unavailable(error, maybe_accepted=True) from error

    def connect(self) -> Any:
        """A new connection. Raises BrokerUnavailableError."""
        try:
            return open_confirming(self._celery, self._timeout)
        except (OperationalError, OSError) as error:
            raise self._unavailable(error, maybe_accepted=False) from error

    def drop(self) -> None:
        """Drop all connections, without waiting for the broker."""
        for connection in self._connections:
            connection.collect()
        self._connections.clear()

    def _unavailable(self, error: Exception, *, maybe_accepted: bool) -> BrokerUnavailableError:
        reason = str(error) or type(error).__name__
        return BrokerUnavailableError(reason, maybe_accepted=maybe_accepted, server=self._server)
