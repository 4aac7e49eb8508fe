"""Buries what RabbitMQ has dead-lettered: the job's FAILURE, and a dead letter beside the results.

Each worker has a consumer for it, in a thread with a connection of its own. A message is
acknowledged once all is done: whoever dies in between has another worker do it again.
"""

import logging
from typing import Any, Final

from amqp.exceptions import AMQPError
from kombu import Consumer
from kombu.exceptions import KombuError

from service.broker.dead_letters.failure import store_expired, store_failure
from service.broker.messages import DELIVERIES
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.quorum import dead_letter_queue, dead_letters_name, uses_quorum_queues
from service.jobs.celery.republishing import republish
from service.redis.keys import broker_keys
from service.redis.transient import TRANSIENT
from service.signals import Incident, note_incident
from service.worker.loop.thread_step import ThreadStep
from service.worker.rabbitmq.kept import KeptJobs
from service.worker.rabbitmq.letters import Death, envelope, letter
from service.worker.rabbitmq.starts import Starts

logger: Final = logging.getLogger(__name__)

_PAUSE: Final = 1.0  # seconds until a lost connection is tried again
_HEARTBEAT: Final = 30.0  # seconds
_PREFETCH: Final = 10
# A job that others took along is tried again so often at most, should nobody count its starts.
_MAX_ROUNDS: Final = 100


class BuryingStep(ThreadStep):
    """Runs the thread in each worker. It ends with the letter that is being buried."""

    requires = ("celery.worker.components:Pool",)
    thread_name = "dead-letters"

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._celery: QuartCelery = worker.app

    def include_if(self, worker: Any) -> bool:
        """Only where RabbitMQ has quorum queues."""
        return uses_quorum_queues(worker.app.conf)

    def run(self) -> None:
        """Consume, and again after each loss of the connection."""
        is_away = False
        while not self.stopping.is_set():
            try:
                self._consume()
            except (*TRANSIENT, AMQPError, KombuError) as error:
                if not is_away:
                    logger.warning("Dead letters wait, as they cannot be buried now: %r", error)
                is_away = True
            except Exception:
                logger.exception("A dead letter could not be buried")
            else:
                is_away = False
            self.stopping.wait(_PAUSE)

    def _consume(self) -> None:
        burier = Burier(self._celery)
        queue = dead_letter_queue(dead_letters_name(self._celery.conf))
        with self._celery.connection_for_read(heartbeat=_HEARTBEAT) as connection:
            channel: Any = connection.default_channel
            channel.basic_qos(0, _PREFETCH, False)
            with Consumer(channel, [queue], on_message=burier.bury):
                while not self.stopping.is_set():
                    try:
                        connection.drain_events(timeout=_PAUSE)
                    except TimeoutError:
                        connection.heartbeat_check()


class Burier:
    """Decides what becomes of each message. Raises one of TRANSIENT if that can't be done now."""

    def __init__(self, celery: QuartCelery) -> None:
        self._celery: Any = celery
        self._starts = Starts(celery)
        self._kept = KeptJobs(celery)
        self._most = celery.max_deliveries

    def bury(self, message: Any) -> None:
        """Bury a message that RabbitMQ has dead-lettered, put it back, or end it as expired."""
        headers = message.headers or {}
        death = Death.of(headers, self._celery.conf.task_default_queue)
        job_id, text = str(headers.get("id")), envelope(message, death.queue)
        starts = self._starts.of(job_id)
        counted = headers.get(DELIVERIES, 0)
        rounds = counted // self._most if isinstance(counted, int) else 0
        if death.reason == "delivery_limit" and self._kept.is_kept(job_id):
            self._put_back(text, death, rounds + 1)  # a worker goes on with it
        elif death.reason == "expired":
            store_expired(self._celery, text)
        elif death.reason != "delivery_limit" and starts < self._starts.enough:
            self._keep(message, text, death, death.told, 1)
        elif starts >= self._starts.enough or rounds >= _MAX_ROUNDS:
            count = (rounds + 1) * self._most
            reason = (
                f"The job was delivered {count} times and never came to an end: its workers died,"
                " or gave it back."
            )
            self._keep(message, text, death, reason, count)
            self._starts.forget(job_id)
        else:
            # It was not begun each time: it waited, or ran beside jobs that ended their workers.
            self._put_back(text, death, rounds + 1)
            logger.warning("Job %s is back in %s: others may be to blame", job_id, death.queue)
        message.ack()

    def _put_back(self, text: bytes, death: Death, rounds: int) -> None:
        republish(self._celery, death.queue, text, headers={DELIVERIES: rounds * self._most})

    def _keep(self, message: Any, text: bytes, death: Death, reason: str, count: int) -> None:
        if not store_failure(self._celery, text, reason):
            return  # its worker died between the result and the ack: the job has succeeded
        key = broker_keys(self._celery.conf).dead_letters_of(death.queue)
        client, record = self._celery.backend.client, letter(text, death, reason, count)
        with client.pipeline() as pipe:
            if message.delivery_info.get("redelivered"):
                pipe.lrem(key, 1, record)  # a worker may have died before it could acknowledge
            pipe.lpush(key, record)
            pipe.execute()
        job = (message.headers or {}).get("id")
        logger.error("Job %s is now a dead letter of %s: %s", job, death.queue, reason)
        note_incident(Incident.BURIED)
