"""Enqueues and cancels from async code, by the publisher that the app's broker needs."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from celery.canvas import maybe_signature
from celery.exceptions import TaskRevokedError
from celery.result import GroupResult
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
from service.jobs.arguments import NO_OPTIONS, SendOptions
from service.jobs.celery.app import CeleryBuilder
from service.jobs.job import Job, JobGroup
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import is_simple, read_canvas, unencodable_in
from service.jobs.sending.kombu_publisher import KombuPublisher, PublisherThreads
from service.jobs.sending.message import Accepted, Conditions, SendRequest
from service.jobs.sending.redis_publisher import RedisPublisher
from service.redis.keys import ResultKeys
from service.results.model import Result, State
from service.results.record import decode, encode_ended
from service.results.store import ResultStore
from service.results.watcher import Watcher

logger: Final = logging.getLogger(__name__)

_WAITING: Final = frozenset({State.QUEUED, State.RETRY})
_CANCEL_ATTEMPTS: Final = 10  # of changing a record that others change meanwhile
# Neither loses an accepted job, nor blocks the event loop. Each of their methods may raise
# BrokerUnavailableError, those that send kombu's EncodeError, too, and `send` QueueFullError.
_Publisher: TypeAlias = RedisPublisher | KombuPublisher


class Enqueuer:
    """Hands jobs to the broker, each within SERVICE_ENQUEUE_TIMEOUT, and none twice."""

    def __init__(
        self, celery: CeleryBuilder, watcher: Watcher, client: Redis, keys: ResultKeys
    ) -> None:
        self._signals = celery.signals
        self._celery = celery
        self._watcher = watcher
        self._client = client
        timeout = celery.settings.enqueue_timeout
        self._threads = PublisherThreads(timeout=timeout)
        self._writer = BatchWriter(client, keys, timeout=timeout)
        self._publisher: _Publisher | None = None

    async def prepare(self) -> None:
        """Build the Celery app now, in a thread: it would block the event loop for a while."""
        await self._ready()

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
        handle.arguments.check(args, kwargs)
        publisher = self._publisher or await self._ready()
        task, job_id = publisher.celery.task_named(name), options.get("job_id") or uuid()
        try:
            accepted = await publisher.send(SendRequest(task, job_id, args, kwargs, options))
        except EncodeError as error:
            handle.arguments.refuse_unencodable(args, kwargs, error)
        self._signals.send_queued(accepted.job_id, name)
        return Job(accepted.job_id, name, self._watcher)

    async def enqueue_if(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], conditions: Conditions
    ) -> Accepted:
        """Hand over a call whose arguments were checked, if the conditions hold.

        Gives the earlier job where the idempotency key has one. Raises as `enqueue` does, and
        QueueFullError, and IdempotencyConflictError when the key had another fingerprint.
        """
        publisher = self._publisher or await self._ready()
        accepted = await publisher.send(
            SendRequest(
                publisher.celery.task_named(name), uuid(), args, kwargs, NO_OPTIONS, conditions
            )
        )
        if accepted.is_new:
            self._signals.send_queued(accepted.job_id, name)
        elif accepted.fingerprint != conditions.fingerprint:
            raise IdempotencyConflictError
        return accepted

    async def send(self, signature: Any) -> Job[Any] | JobGroup:
        """Hand over a signature, chain, group or chord, as Celery's own code reads it.

        A signature and a chain of such are read here; a canvas with a group or a chord in it, which
        may be long and may make Celery ask Redis, is read in a thread. Raises
        BrokerUnavailableError, InvalidArgumentsError, and TypeError for any other object.
        """
        if not isinstance(signature, dict):  # as Celery's signatures are
            raise TypeError(
                f"`enqueue` takes a signature, such as `task.s(1)`, and not {signature!r}."
                " A task itself is enqueued by `await task.enqueue(…)`."
            )
        publisher = self._publisher or await self._ready()
        canvas: Any = maybe_signature(signature, app=publisher.celery, clone=True)
        if is_simple(canvas):
            content = read_canvas(canvas)
        else:
            content = await self._threads.run(lambda: read_canvas(canvas))
        try:
            await publisher.send_canvas(content.calls, content.followers)
        except EncodeError as error:
            reason = f"no JSON can be made of them: {error}"
            raise InvalidArgumentsError(unencodable_in(canvas), "", reason) from error
        for call in content.calls:
            if call.job_id:
                self._signals.send_queued(call.job_id, call.task)
        return self._as_job(content.result, content.tasks)

    async def cancel(self, store: ResultStore, job_id: str) -> Result:
        """Cancel a job: one that waits at once; one that runs as soon as its worker's pool can.

        It is cancelled in its record first, which every worker reads before it runs a body. Returns
        what is known of the job then. Raises JobFinishedError, UnknownJobError, InvalidJobIdError,
        ResultsUnavailableError and BrokerUnavailableError.
        """
        publisher = self._publisher or await self._ready()
        for _ in range(_CANCEL_ATTEMPTS):
            record = await store.read(job_id)
            result = record.result
            if result.ready:
                raise JobFinishedError(job_id, result.state)
            if result.state not in _WAITING:
                await publisher.revoke(job_id)
                return result
            revoked = encode_ended(record.data, State.REVOKED, TaskRevokedError("cancelled"))
            if await store.replace(record, revoked):
                try:
                    await publisher.revoke(job_id)
                except BrokerUnavailableError as error:
                    # Workers read the record; the message only saves them from taking the job.
                    logger.warning(
                        "The workers were not told that job %s is cancelled: %s", job_id, error
                    )
                return decode(job_id, revoked)
        raise ResultsUnavailableError("the job's record does not stop changing")

    async def aclose(self) -> None:
        """Close the connections, and end the threads."""
        self._threads.close()
        if isinstance(self._publisher, KombuPublisher):
            self._publisher.close()
        await self._writer.aclose()

    async def _ready(self) -> _Publisher:
        built = await asyncio.to_thread(self._build)
        # Two first jobs at once build two; both must use one, which holds the templates.
        self._publisher = publisher = self._publisher or built
        return publisher

    def _build(self) -> _Publisher:
        celery = self._celery.get()
        celery.finalize(auto=True)
        if celery.conf.broker_url == self._celery.settings.redis_url:
            return RedisPublisher(celery, self._writer)
        return KombuPublisher(celery, self._writer, self._client, self._threads)

    def _as_job(self, result: Any, tasks: Mapping[str, str]) -> Job[Any] | JobGroup:
        if isinstance(result, GroupResult):
            parts = [self._as_job(one, tasks) for one in result.results or ()]
            return JobGroup(str(result.id), parts)
        return Job(result.id, tasks.get(result.id, ""), self._watcher)
