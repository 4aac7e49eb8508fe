"""Has what Celery's own code publishes on RabbitMQ reach a queue, also where it was deleted."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from amqp.exceptions import ChannelError, NotFound
from kombu.exceptions import OperationalError

from service.jobs.celery.connections import open_confirming
from service.jobs.celery.quorum import QuorumQueue

_NO_ROUTE: Final = 312  # AMQP's code of a message that comes back
_FRESH: Final = 2.0  # seconds for which a look at a queue serves all jobs that are scheduled


class SureRouting:
    """Kombu declares a queue once for each connection, and knows of none that is deleted later."""

    def __init__(self, celery: Any) -> None:
        self._celery = celery
        self._looked_at: dict[str, float] = {}  # when each queue was, by the monotonic clock

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call with those that have RabbitMQ say whether a queue has it."""
        producer = options.get("producer") or options.get("publisher")
        found = dict(options)
        found.setdefault("confirm_timeout", self._celery.conf.broker_connection_timeout)
        # On a connection that confirms nothing it would come back during another call.
        is_confirmed = not options.get("connection") and (producer is None or _confirms(producer))
        if is_confirmed and options.get("mandatory") is None:  # as Celery's tasks have it
            found["mandatory"] = True
        return found

    def send(self, send: Callable[[], Any], options: Mapping[str, Any], queue: Any) -> Any:
        """Send a job; once more, with its `queue` declared anew, where no queue has taken it."""
        if not isinstance(queue, QuorumQueue):
            return send()
        if options.get("eta") or options.get("countdown"):
            self._look_at(queue)
        try:
            return send()
        except ChannelError as error:
            if error.reply_code != _NO_ROUTE:
                raise
        self._declare_if_absent(queue)
        if (producer := options.get("producer") or options.get("publisher")) is not None:
            # What it hears next on its channel would be the confirmation of what came back.
            producer.connection.collect()
            producer.revive(producer.connection)
        return send()

    def _look_at(self, queue: Any) -> None:
        """Declare the queue of a scheduled job if it is gone; its delay takes the job anyhow."""
        now = time.monotonic()
        if now - self._looked_at.get(queue.name, 0.0) < _FRESH:
            return
        self._looked_at[queue.name] = now
        try:
            self._declare_if_absent(queue)
        except (OperationalError, OSError):
            del self._looked_at[queue.name]  # publishing tells of it, and may wait for its end

    def _declare_if_absent(self, queue: Any) -> None:
        timeout = self._celery.conf.broker_connection_timeout
        with open_confirming(self._celery, timeout) as connection:
            try:
                queue(connection.channel()).queue_declare(passive=True)
            except NotFound:
                queue(connection.channel()).declare()


def _confirms(producer: Any) -> bool:
    return bool((producer.connection.transport_options or {}).get("confirm_publish"))
