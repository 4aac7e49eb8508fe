"""Sends jobs to brokers other than the service's Redis: by Kombu, on a few threads."""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from kombu.exceptions import OperationalError
from kombu.serialization import dumps
from kombu.utils.uuid import uuid
from redis.asyncio import Redis

from service.errors import BrokerUnavailableError
from service.jobs.celery.capture import Letter
from service.jobs.options import Call
from service.jobs.sending.batch import FREELY, BatchWriter, Terms
from service.jobs.sending.message import Envelope, queued_envelope
from service.jobs.sending.redis_publisher import letter_of
from service.jobs.sending.threads import Threads
from service.redis.bounded import bounded
from service.redis.compare_and_set import compare_and_set
from service.results.record import encode_queued, mark_of, now

logger: Final = logging.getLogger(__name__)

_UNSENT: Final = "unsent"  # since when it is being sent, in seconds since the epoch
_LONG_AGO: Final = 1.0
_PATIENCE: Final = 3  # timeouts: to connect, to publish, and for the broker's word
_LOOK_AGAIN: Final = 0.05  # seconds


class KombuBroker:
    """Writes the record first, marked as unsent, then publishes, then takes the mark away.

    The two cannot be one step. The mark says since when somebody publishes; where that failed
    half-way it says a time long ago, so that enqueueing its id again publishes again: the job may
    then run twice, but is never lost.
    """

    def __init__(self, celery: Any, writer: BatchWriter, client: Redis, threads: Threads) -> None:
        self._celery = celery
        self._writer = writer
        self._client = client
        self._threads = threads
        self._timeout = threads.timeout
        self._own = threading.local()
        self._connections: list[Any] = []

    async def send(self, call: Call, terms: Terms = FREELY) -> str:
        """Send one call. The length of the queue is not looked at: this broker bounds its own."""
        letter = letter_of(call, call.options.job_id or uuid())
        unsent = _checked(letter)
        (answer,) = await self._writer.write([unsent], replace(terms, limit=0))
        if answer == "new":
            await self._publish(letter, unsent)
            return letter.job_id
        if answer != "known":  # the idempotency key has a job already
            letter = letter_of(call, answer.split(" ")[0])
        if (earlier := await self._left_unsent(letter)) is not None:
            await self._publish(letter, earlier)
        return letter.job_id if answer == "known" else answer

    async def send_letters(
        self, letters: Sequence[Letter], followers: Mapping[str, str | None]
    ) -> None:
        """Send a canvas, one message after the other."""
        moment = now()
        marked = [_checked(letter) for letter in letters]  # raises before there are any records
        if followers:
            await self._writer.write(
                [queued_envelope(job_id, task, moment) for job_id, task in followers.items()]
            )
        for number, (letter, unsent) in enumerate(zip(letters, marked, strict=True)):
            try:
                await self._writer.write([unsent])
                await self._publish(letter, unsent)
            except BrokerUnavailableError as error:
                raise BrokerUnavailableError(
                    error.reason, maybe_accepted=error.maybe_accepted or number > 0
                ) from error

    async def revoke(self, job_id: str) -> None:
        """Celery's own `control.revoke`."""
        await self._threads.run(lambda: self._celery.control.revoke(job_id, terminate=True))

    async def aclose(self) -> None:
        """Drop the connections of all threads, without a word to the broker."""
        for connection in self._connections:
            connection.collect()
        self._connections.clear()

    async def _publish(self, letter: Letter, unsent: Envelope) -> None:
        try:
            await self._threads.run(lambda: self._publish_now(letter))
        except BrokerUnavailableError as error:
            await self._settle(unsent, _marked(letter, _LONG_AGO) if error.maybe_accepted else "")
            raise
        await self._settle(unsent, _sent_record(letter))

    async def _settle(self, unsent: Envelope, record: str) -> None:
        if not unsent.record:
            return  # an event of Celery's own, not a job
        try:
            await self._change(unsent, record)
        except BrokerUnavailableError as error:
            logger.warning("The record of job %s could not be settled: %s", unsent.job_id, error)

    async def _change(self, envelope: Envelope, record: str) -> bool:
        """Replace the job's record; whether it was still this one."""
        key = self._writer.keys.record(envelope.job_id)
        async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
            return await compare_and_set(self._client, key, envelope.record, record)

    async def _left_unsent(self, letter: Letter) -> Envelope | None:
        """The job's record, if it is for us to publish now; waits while another call does."""
        give_up_at = time.monotonic() + self._timeout
        while True:
            async with bounded(self._timeout, BrokerUnavailableError, maybe_accepted=True):
                stored = await self._client.get(self._writer.keys.record(letter.job_id))
            if stored is None or (since := mark_of(stored, _UNSENT)) is None:
                return None
            if time.time() - since > _PATIENCE * self._timeout:
                text = stored if isinstance(stored, str) else stored.decode()
                ours = _unsent(letter)
                if await self._change(Envelope(letter.job_id, "", text, ()), ours.record):
                    return ours
            elif time.monotonic() > give_up_at:
                raise BrokerUnavailableError("another call sends this job", maybe_accepted=True)
            await asyncio.sleep(_LOOK_AGAIN)

    def _publish_now(self, letter: Letter) -> None:
        """Publish and wait for the broker's word, on a connection of this thread's own."""
        if getattr(self._own, "producer", None) is None:
            self._own.producer = self._connect()
        producer = self._own.producer
        try:
            options = {"timeout": self._timeout, "confirm_timeout": self._timeout}
            producer.publish(letter.body, **{**letter.options, **options})
        except Exception as error:
            self._own.producer = None
            self._connections.remove(producer.connection)
            producer.connection.collect()
            raise BrokerUnavailableError(
                str(error) or type(error).__name__, maybe_accepted=True
            ) from error

    def _connect(self) -> Any:
        transport = {**self._celery.conf.broker_transport_options, "confirm_publish": True}
        connection = self._celery.connection_for_write(
            connect_timeout=self._timeout, transport_options=transport
        )
        try:
            connection.ensure_connection(max_retries=1, timeout=self._timeout)
        except (OperationalError, OSError) as error:
            raise BrokerUnavailableError(str(error) or type(error).__name__) from error
        self._connections.append(connection)
        return self._celery.amqp.Producer(connection, auto_declare=False)


def _checked(letter: Letter) -> Envelope:
    """The record of a letter that is new. Raises EncodeError, as publishing it would."""
    dumps(letter.body, letter.options.get("serializer"))
    return _unsent(letter)


def _unsent(letter: Letter) -> Envelope:
    """The record of a letter while it is not sent."""
    return Envelope(letter.job_id, "", _marked(letter, time.time()) if letter.job_id else "", ())


def _marked(letter: Letter, since: float) -> str:
    return encode_queued(letter.job_id, letter.task, letter.queued_at, marks={_UNSENT: since})


def _sent_record(letter: Letter) -> str:
    return encode_queued(letter.job_id, letter.task, letter.queued_at)
