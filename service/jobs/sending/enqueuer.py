"""Enqueues from async code, by the publisher that the app's broker needs."""

import asyncio
from collections.abc import Mapping
from typing import Any

from celery.canvas import maybe_signature
from celery.result import GroupResult
from kombu.exceptions import EncodeError
from kombu.utils.uuid import uuid
from redis.asyncio import Redis

from service.errors import IdempotencyConflictError, InvalidArgumentsError, UnknownTaskError
from service.jobs.celery.app import CeleryBuilder
from service.jobs.job import Job, JobGroup
from service.jobs.options import NO_OPTIONS, SendOptions
from service.jobs.registry import TaskRegistry
from service.jobs.sending.batch import BatchWriter
from service.jobs.sending.canvas import is_simple, read_canvas, unencodable_in
from service.jobs.sending.kombu_publisher import KombuPublisher
from service.jobs.sending.publisher import Accepted, Conditions, Publisher, SendRequest
from service.jobs.sending.publisher_threads import PublisherThreads
from service.jobs.sending.redis_publisher import RedisPublisher
from service.redis.keys import ResultKeys
from service.results.watcher import Watcher
from service.settings import Settings
from service.signals import Signals


class Enqueuer:
    """Hands jobs to the broker, each within SERVICE_ENQUEUE_TIMEOUT, and none twice."""

    def __init__(  # noqa: PLR0913  each by name
        self,
        *,
        settings: Settings,
        client: Redis,
        watcher: Watcher,
        tasks: TaskRegistry,
        signals: Signals,
        celery: CeleryBuilder,
        keys: ResultKeys,
    ) -> None:
        self._signals = signals
        self._settings = settings
        self._client = client
        self._watcher = watcher
        self._tasks = tasks
        self._celery = celery
        self._threads = PublisherThreads(timeout=settings.enqueue_timeout)
        self._writer = BatchWriter(
            client, timeout=settings.enqueue_timeout, ttl=settings.result_expires, keys=keys
        )
        self._publisher: Publisher | None = None

    def celery_task(self, name: str) -> Any:
        """The app's own Celery task object of this name."""
        return self._celery.get().task_named(name)

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
        handle = self._tasks.get(name)
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

    async def revoke(self, job_id: str) -> None:
        """Tell every worker to end the job, or not to begin it. Raises BrokerUnavailableError."""
        publisher = self._publisher or await self._ready()
        await publisher.revoke(job_id)

    async def aclose(self) -> None:
        """Close the connections, and end the threads."""
        await self._threads.aclose()
        if self._publisher is not None:
            await self._publisher.aclose()
        await self._writer.aclose()

    async def _ready(self) -> Publisher:
        built = await asyncio.to_thread(self._build)
        # Two first jobs at once build two; both must use one, which holds the templates.
        self._publisher = publisher = self._publisher or built
        return publisher

    def _build(self) -> Publisher:
        celery = self._celery.get()
        celery.finalize(auto=True)
        if celery.conf.broker_url == self._settings.redis_url:
            return RedisPublisher(celery, self._writer)
        return KombuPublisher(celery, self._writer, self._client, self._threads)

    def _as_job(self, result: Any, tasks: Mapping[str, str]) -> Job[Any] | JobGroup:
        if isinstance(result, GroupResult):
            parts = [self._as_job(one, tasks) for one in result.results or ()]
            return JobGroup(str(result.id), parts)
        return Job(result.id, tasks.get(result.id, ""), self._watcher)
