"""Enqueues and cancels from async code, by the publisher that the app's broker needs."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from itertools import chain
from typing import Any, Final, Protocol

from celery.exceptions import TaskRevokedError
from kombu.exceptions import EncodeError
from kombu.utils.uuid import uuid
from redis.asyncio import Redis

from service.errors import (
    BrokerUnavailableError,
    IdempotencyConflictError,
    InvalidArgumentsError,
    JobFinishedError,
    ResultsUnavailableError,
    UnknownTaskError,
)
from service.jobs.arguments import NO_OPTIONS, SendOptions, tags_of
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.builder import CeleryBuilder
from service.jobs.job import Job, JobControl, JobGroup
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import CanvasContent, Made, read_in_steps, unencodable_in
from service.jobs.sending.journal import Journals
from service.jobs.sending.message import Accepted, Conditions, SendRequest
from service.jobs.sending.other_brokers.kombu_publisher import KombuPublisher
from service.jobs.sending.other_brokers.publisher_threads import PublisherThreads
from service.jobs.sending.other_brokers.rabbitmq_publisher import RabbitMQPublisher, is_rabbitmq
from service.jobs.sending.redis_publisher import RedisPublisher
from service.rabbitmq.connection import QueueCounts
from service.redis.keys import result_keys
from service.results.decoding import decode
from service.results.marks import CANCELLED_BY, with_mark
from service.results.model import Result, State
from service.results.record import encode_ended
from service.results.store import ResultStore
from service.results.watcher import Watcher

logger: Final = logging.getLogger(__name__)
_WAITING: Final = frozenset({State.QUEUED, State.RETRY})
_SIGNALS_AT_ONCE: Final = 100  # of which each runs the code of those who listen
_CANCEL_ATTEMPTS: Final = 10  # of changing a record that others change meanwhile


class Publisher(Protocol):
    """Loses no accepted job, and does not block the event loop.

    All may raise BrokerUnavailableError, those that send EncodeError, too; `send` QueueFullError.
    """

    celery: QuartCelery
    server: str  # as errors name it

    async def send(self, request: SendRequest) -> Accepted:
        """Send one call."""

    async def send_canvas(self, contents: AsyncGenerator[CanvasContent, None]) -> None:
        """Send all of a canvas, and close its contents."""

    async def command(self, name: str, arguments: Mapping[str, Any], worker: str) -> None:
        """Give a worker a command of Celery's remote control."""

    async def revoke(self, job_id: str) -> None:
        """Have the workers end a job."""

    async def revoke_waiting(self, job_id: str, client: Redis, *, is_scheduled: bool) -> None:
        """Have the workers drop a job, by a client of the broker's Redis."""

    async def ping(self) -> None:
        """Have the broker answer, unless it is the results' Redis."""

    async def queue_counts(self, queues: Iterable[str]) -> Mapping[str, QueueCounts] | None:
        """How much waits in these queues, where it is known; None where Redis knows it."""

    async def aclose(self) -> None:
        """Drop the connections, without waiting for the broker."""


class Enqueuer:
    """Hands jobs to the broker, each within SERVICE_ENQUEUE_TIMEOUT, and none twice."""

    def __init__(
        self, celery: CeleryBuilder, store: ResultStore, watcher: Watcher, *clients: Redis
    ) -> None:
        """`clients` are one of the results' Redis, and one of the broker's."""
        self._celery, self._signals = celery, celery.signals
        self._store, self.wait = store, watcher.wait
        self._control: JobControl = self  # of the jobs that it gives
        self._client, self._broker_client = clients
        timeout, keys = celery.settings.enqueue_timeout, result_keys(celery.settings)
        self._threads = PublisherThreads(timeout=timeout)
        replicas = celery.settings.min_replicas
        self._writer = BatchWriter(self._client, keys, timeout=timeout, replicas=replicas)
        self._journals = Journals(self._client, keys, timeout=timeout, replicas=replicas)
        self._finishing: asyncio.Task[None] | None = None
        self._publisher: Publisher | None = None
        self._built: Publisher | None = None  # the one that the broker needs

    def publish_by(self, publisher: Publisher | None, control: JobControl | None) -> None:
        """Hand jobs to this publisher, of a test; None is the one that the broker needs."""
        self._publisher, self._control = publisher, control or self

    async def prepare(self) -> None:
        """Build the Celery app now, in a thread unless it is built: it would block for a while."""
        publisher = await self.publisher()
        if isinstance(publisher, RedisPublisher):
            self._finishing = asyncio.create_task(self._journals.finish_abandoned())
        elif isinstance(publisher, RabbitMQPublisher):
            publisher.begin()

    async def enqueue(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: SendOptions = NO_OPTIONS,
    ) -> Job[Any]:
        """Hand a call of the task to the broker.

        When this returns, the job is stored and its id is known. Raises BrokerUnavailableError,
        InvalidArgumentsError and UnknownTaskError.
        """
        handle = self._celery.tasks.get(name)
        if handle is None:
            raise UnknownTaskError(name)
        sent, sent_by_name = handle.arguments.check(args, kwargs)
        publisher = self._publisher or await self.publisher()
        task, job_id = publisher.celery.task_named(name), options.get("job_id") or uuid()
        try:
            accepted = await publisher.send(SendRequest(task, job_id, sent, sent_by_name, options))
        except EncodeError as error:
            handle.arguments.refuse_unencodable(sent, sent_by_name, error)
        self._signals.send_queued(accepted.job_id, name, accepted.queue, tags_of(options))
        return Job(accepted.job_id, name, self._control, handle.arguments.result_decoder)

    async def enqueue_if(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        conditions: Conditions,
        options: SendOptions = NO_OPTIONS,
    ) -> Accepted:
        """Hand over a call whose arguments were checked, for an owner, if the conditions hold.

        Gives the earlier job where the idempotency key has one. Raises as `enqueue` does, and
        QueueFullError, and IdempotencyConflictError when the key had another fingerprint.
        """
        publisher = self._publisher or await self.publisher()
        task, owner = publisher.celery.task_named(name), conditions.owner
        options = {**options, "owner": owner} if owner else options
        request = SendRequest(task, uuid(), args, kwargs, options, conditions)
        accepted = await publisher.send(request)
        if accepted.is_new:
            self._signals.send_queued(accepted.job_id, name, accepted.queue, tags_of(options))
        elif accepted.fingerprint != conditions.fingerprint:
            raise IdempotencyConflictError
        return accepted

    async def send(self, signature: Any, owner: str | None = None) -> Job[Any] | JobGroup:
        """Hand over a signature, chain, group or chord, as Celery's own code reads it.

        On Redis all of it is sent, or nothing. A signature and a chain of such are read here; a
        canvas with a group or a chord in it, which may be long, is read in a thread, step by step.
        Raises BrokerUnavailableError, InvalidArgumentsError, and TypeError for any other object.
        """
        if not isinstance(signature, dict):  # as Celery's signatures are
            raise TypeError(
                f"`enqueue` takes a signature, such as `task.s(1)`, and not {signature!r}."
                " A task itself is enqueued by `await task.enqueue(…)`."
            )
        publisher = self._publisher or await self.publisher()
        sent: list[tuple[Any, ...]] = []
        made: list[Made] = []
        try:
            steps = read_in_steps(
                publisher.celery, signature, owner, sent=sent, made=made, run=self._threads.run
            )
            await publisher.send_canvas(steps)
        except EncodeError as error:
            task = await asyncio.to_thread(unencodable_in, signature)
            raise InvalidArgumentsError(task, "", f"no JSON is made of them: {error}") from error
        for number, queued in enumerate(sent, 1):
            self._signals.send_queued(*queued)
            if number % _SIGNALS_AT_ONCE == 0:
                await asyncio.sleep(0)
        (first_id, first), *slices = made
        if slices:
            first = tuple(chain(first, *(part for _, part in slices)))  # type: ignore[arg-type]  # groups
        return self._as_job((first_id, first))

    async def cancel(self, job_id: str, *, by: str | None = None) -> Result:
        """Cancel a job: one that waits at once; one that runs as soon as its worker's pool can.

        It is cancelled in its record first, which workers read before they begin an attempt, and
        which notes `by` whom. Returns what is known of the job then. Raises JobFinishedError,
        UnknownJobError, InvalidJobIdError, ResultsUnavailableError and BrokerUnavailableError.
        """
        publisher = self._publisher or await self.publisher()
        for _ in range(_CANCEL_ATTEMPTS):
            result = (record := await self._store.read(job_id)).result
            if result.ready:
                raise JobFinishedError(job_id, result.state)
            if result.state not in _WAITING:
                if await self._store.replace(record, with_mark(record.data, CANCELLED_BY, by)):
                    await publisher.revoke(job_id)
                    return result
                continue
            data = record.data if by is None else with_mark(record.data, CANCELLED_BY, by)
            revoked = encode_ended(data, State.REVOKED, TaskRevokedError("cancelled"))
            if await self._store.replace(record, revoked):
                try:
                    # The record of a retry, as by a stock worker, may not say when it is due.
                    timed = result.due_at is not None or result.state is State.RETRY
                    await publisher.revoke_waiting(job_id, self._broker_client, is_scheduled=timed)
                except BrokerUnavailableError as error:
                    # Workers read the record; the message only saves them from taking the job.
                    logger.warning("Workers were not told to cancel job %s: %s", job_id, error)
                return decode(job_id, revoked)
        raise ResultsUnavailableError("the job's record does not stop changing")

    async def aclose(self) -> None:
        """Close the connections, and end the threads."""
        if self._finishing is not None:
            self._finishing.cancel()
            await asyncio.wait([self._finishing])
        self._threads.close()
        if self._built is not None:
            await self._built.aclose()
        await self._writer.aclose()

    async def publisher(self) -> Publisher:
        """What hands over jobs, built once the app is complete."""
        if (built := self._built) is None:
            ready, build = self._celery.is_ready, self._build
            built = build() if ready else await asyncio.to_thread(build)
        self._built = built = self._built or built  # of two that were built at once, one is used
        self._publisher = self._publisher or built
        return self._publisher

    def _build(self) -> Publisher:
        celery = self._celery.get()
        celery.finalize(auto=True)
        if celery.conf.broker_url == self._celery.settings.redis_url:
            return RedisPublisher(celery, self._writer, self._journals)
        kind = RabbitMQPublisher if is_rabbitmq(celery) else KombuPublisher
        return kind(celery, self._writer, self._client, self._threads)

    def _as_job(self, made: Made) -> Job[Any] | JobGroup:
        job_id, rest = made
        if isinstance(rest, tuple):
            return JobGroup(job_id, lambda: map(self._as_job, rest))
        handle = self._celery.tasks.get(rest)
        return Job(job_id, rest, self._control, handle and handle.arguments.result_decoder)
