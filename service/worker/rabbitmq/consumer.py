"""Celery's consumer for RabbitMQ with quorum queues."""

import logging
from typing import Any, ClassVar, Final

from amqp.exceptions import PreconditionFailed
from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.platforms import EX_FAILURE
from celery.worker import consumer, state
from celery.worker.consumer.tasks import Tasks

from service.broker.celery_worker import all_of
from service.jobs.celery.connections import COPY
from service.jobs.celery.quorum import DeclaredOtherwiseError, declare_delays
from service.worker.rabbitmq.buffering import BufferingConsumer
from service.worker.rabbitmq.kept import Copies, KeptJobs, has_one_timeout
from service.worker.rabbitmq.suspects import Suspects

logger: Final = logging.getLogger(__name__)

_TIMED_OUT: Final = "delivery acknowledgement on channel"  # RabbitMQ's text
_CELERYS_DELAYS: Final = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Delays(bootsteps.StartStopStep):
    """Declares what delays jobs, on the connection that the worker has; looks at its server.

    Celery's own step connects to each node of the cluster for it, and waits seconds for a dead one.
    """

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        """Declare all of it, as somebody may have broken off in the midst of it."""
        declare_delays(parent.connection)
        parent.note_server(parent.connection.connection)


_CeleryBlueprint: Any = consumer.Consumer.Blueprint


class Consumer(BufferingConsumer):
    """Goes on where RabbitMQ has closed its channel; ends the worker if its queues are others."""

    app: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self.suspects = Suspects(options["app"], self._call_after)
        self.kept = KeptJobs(options["app"])
        self.copies = Copies(options["app"], self.kept, self._call_after)
        self.has_one_timeout = False
        super().__init__(*args, **options)

    class Blueprint(_CeleryBlueprint):  # type: ignore[misc]  # Any: celery-types has a variable
        """Celery's own, with our delays."""

        default_steps: ClassVar = [
            f"{Delays.__module__}:{Delays.__name__}" if step == _CELERYS_DELAYS else step
            for step in _CeleryBlueprint.default_steps
        ]

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Celery's own, which is called for a suspect when there is room for it."""
        handle = super().create_task_handler(*args, **options)

        def handle_suspect(message: Any) -> None:
            self.suspects.handle(message, handle)

        def handle_copy(message: Any) -> None:
            if self.has_one_timeout or COPY in (message.headers or ()):
                self.copies.handle(message, handle_suspect)
            else:
                handle_suspect(message)

        return handle_copy

    def add_task_queue(self, queue: Any, exchange: Any = None, *args: Any, **options: Any) -> Any:
        """Celery's own, which would declare a new queue otherwise than those who publish to it."""
        if exchange is None:
            self.app.amqp.queues[queue]  # from now on it is known
        return super().add_task_queue(queue, exchange, *args, **options)

    def on_close(self) -> None:
        """Celery's own: what was delivered on the lost channel is delivered again."""
        self.suspects.clear()
        self.copies.clear()
        super().on_close()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery's own, before it connects anew."""
        if isinstance(exc, DeclaredOtherwiseError):
            logger.critical("This worker cannot take jobs: %s", exc)
            raise WorkerShutdown(EX_FAILURE) from exc
        if isinstance(exc, PreconditionFailed) and _TIMED_OUT in str(exc):
            running = all_of(state.active_requests)
            logger.warning(
                "RabbitMQ has closed the channel, as a job takes longer than its consumer_timeout;"
                " the %d jobs that run here go on",
                len(running),
            )
            self.kept.keep(running)
        super().on_connection_error_after_connected(exc)

    def note_server(self, connection: Any) -> None:
        """Say once what is to be set on a server that knows no timeout of a consumer's own."""
        if has_one_timeout(connection) and not self.has_one_timeout:
            self.has_one_timeout = True
            logger.warning(
                "RabbitMQ %s closes the channel of a worker that has a job for longer than its"
                " consumer_timeout. Set it in rabbitmq.conf above your longest job, or use 3.12.",
                connection.server_properties["version"],
            )

    def _call_after(self, seconds: float, function: Any) -> None:
        self.timer.call_after(seconds, function)
