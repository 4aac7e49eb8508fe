"""The only code that publishes from async code."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery.canvas import maybe_signature
from celery.result import GroupResult
from kombu.exceptions import EncodeError
from quart import Quart
from redis.asyncio import Redis

from service.errors import IdempotencyConflictError, InvalidArgumentsError, UnknownTaskError
from service.jobs.arguments import is_encodable
from service.jobs.celery.app import CeleryBuilder, QuartCelery
from service.jobs.celery.capture import Letter, collecting
from service.jobs.job import Job, JobGroup
from service.jobs.options import PLAIN, Call, SendOptions
from service.jobs.registry import TaskRegistry
from service.jobs.sending.batch import BatchWriter, Terms
from service.jobs.sending.kombu_publisher import KombuBroker
from service.jobs.sending.redis_publisher import Broker, RedisBroker
from service.jobs.sending.threads import Threads
from service.redis.keys import ResultKeys
from service.results.watcher import Watcher
from service.settings import Settings
from service.signals import send_queued


@dataclass(frozen=True, slots=True)
class _Sending:
    """What can be had only once the Celery app is built."""

    celery: QuartCelery
    broker: Broker


class Enqueuer:
    """Hands jobs to the broker, each within SERVICE_ENQUEUE_TIMEOUT, and none twice."""

    def __init__(  # noqa: PLR0913  each by name
        self,
        app: Quart,
        *,
        settings: Settings,
        client: Redis,
        watcher: Watcher,
        tasks: TaskRegistry,
        celery: CeleryBuilder,
        keys: ResultKeys,
    ) -> None:
        self._app = app
        self._settings = settings
        self._client = client
        self._watcher = watcher
        self._tasks = tasks
        self._celery = celery
        self._keys = keys
        self._threads = Threads(timeout=settings.enqueue_timeout)
        self._writer = BatchWriter(
            client,
            timeout=settings.enqueue_timeout,
            ttl=settings.result_expires,
            keys=keys,
        )
        self._sending: _Sending | None = None

    def celery_task(self, name: str) -> Any:
        """The app's own Celery task object of this name."""
        return self._celery.get().task_named(name)

    async def prepare(self) -> None:
        """Build the Celery app now, off the event loop, which it would stop for a while."""
        await self._ready()

    async def enqueue(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: SendOptions = PLAIN,
    ) -> Job[Any]:
        """Hand a call of the task to the broker.

        When this returns, the job is stored and its id is known. Raises BrokerUnavailableError,
        InvalidArgumentsError and UnknownTaskError.
        """
        handle = self._tasks.get(name)
        if handle is None:
            raise UnknownTaskError(name)
        handle.arguments.check(args, kwargs)
        sending = self._sending or await self._ready()
        call = Call(sending.celery.task_named(name), args, kwargs, options)
        try:
            job_id = await sending.broker.send(call)
        except EncodeError as error:
            handle.arguments.refuse_unencodable(args, kwargs, error)
        send_queued(self._app, job_id, name)
        return Job(job_id, name, self._watcher)

    async def enqueue_once(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: Terms
    ) -> tuple[Job[Any], bool]:
        """Hand over a call whose arguments were checked, unless `terms.once` has its job already.

        Returns the job and whether it is a new one. Raises as `enqueue` does, and besides
        QueueFullError, and IdempotencyConflictError when the key stands for another fingerprint.
        """
        sending = self._sending or await self._ready()
        if terms.once:
            terms = replace(terms, once=self._keys.idempotency(name, terms.once))
        call = Call(sending.celery.task_named(name), args, kwargs)
        job_id, _, earlier = (await sending.broker.send(call, terms)).partition(" ")
        if earlier and earlier != terms.fingerprint:
            raise IdempotencyConflictError
        if not earlier:
            send_queued(self._app, job_id, name)
        return Job(job_id, name, self._watcher), not earlier

    async def send(self, signature: Any) -> Job[Any] | JobGroup:
        """Hand over a signature, chain, group or chord, as Celery's own code reads it.

        That code runs here for a signature and a chain of such; for whatever holds a group or a
        chord, which may be long and may ask Redis, in a thread. Either way it only builds
        messages, which then are sent like any other. Raises BrokerUnavailableError,
        InvalidArgumentsError, and TypeError for what is no signature.
        """
        if not isinstance(signature, dict):  # as Celery's signatures are
            raise TypeError(
                f"`enqueue` takes a signature, such as `task.s(1)`, and not {signature!r}."
                " A task itself is enqueued by `await task.enqueue(…)`."
            )
        sending = self._sending or await self._ready()
        canvas = maybe_signature(signature, app=sending.celery, clone=True)
        if _is_simple(canvas):
            result, letters = _walk(canvas)
        else:
            result, letters = await self._threads.run(lambda: _walk(canvas))
        sent = {letter.job_id for letter in letters}
        names = dict(_names_in([letter.body for letter in letters]))
        names |= {letter.job_id: letter.task for letter in letters}
        followers = {id_: names.get(id_) for id_ in _ids_of(result) if id_ not in sent}
        try:
            await sending.broker.send_letters(letters, followers)
        except EncodeError as error:
            reason = f"no JSON can be made of them: {error}"
            raise InvalidArgumentsError(_unencodable_in(canvas), "", reason) from error
        for letter in letters:
            if letter.job_id:
                send_queued(self._app, letter.job_id, letter.task)
        return self._as_job(result, names)

    async def revoke(self, job_id: str) -> None:
        """Tell every worker to end the job, or not to begin it. Raises BrokerUnavailableError."""
        sending = self._sending or await self._ready()
        await sending.broker.revoke(job_id)

    async def aclose(self) -> None:
        """Let go of the connection and the threads."""
        await self._threads.aclose()
        if self._sending is not None:
            await self._sending.broker.aclose()
        await self._writer.aclose()

    async def _ready(self) -> _Sending:
        built = await asyncio.to_thread(self._build)
        # Two first jobs at once build two; both must use one, which holds the templates.
        self._sending = sending = self._sending or built
        return sending

    def _build(self) -> _Sending:
        celery = self._celery.get()
        celery.finalize(auto=True)
        broker: Broker
        if celery.conf.broker_url == self._settings.redis_url:
            broker = RedisBroker(celery, self._writer)
        else:
            broker = KombuBroker(celery, self._writer, self._client, self._threads)
        return _Sending(celery, broker)

    def _as_job(self, result: Any, names: Mapping[str, str]) -> Job[Any] | JobGroup:
        if isinstance(result, GroupResult):
            return JobGroup(
                str(result.id), [self._as_job(one, names) for one in result.results or ()]
            )
        return Job(result.id, names.get(result.id, ""), self._watcher)


def _is_simple(canvas: Any) -> bool:
    if canvas.subtask_type == "chain":
        return all(_is_simple(task) for task in canvas.tasks)
    return canvas.subtask_type is None and "chord" not in canvas.options


def _walk(canvas: Any) -> tuple[Any, list[Letter]]:
    with collecting() as letters:
        return canvas.apply_async(), letters


def _ids_of(result: Any) -> Iterator[str]:
    """The id of each job that a canvas will make, its first ones included."""
    while result is not None:
        if isinstance(result, GroupResult):
            for one in result.results or ():
                yield from _ids_of(one)
        else:
            yield result.id
        result = result.parent


def _names_in(part: Any) -> Iterator[tuple[str, str]]:
    """The ids, with their tasks, of the signatures that messages carry along."""
    if isinstance(part, Mapping):
        job_id = (part.get("options") or {}).get("task_id") if "task" in part else None
        if job_id:
            yield job_id, part["task"]
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for inner in part:
            yield from _names_in(inner)


def _unencodable_in(part: Any) -> str:
    """The task of the innermost signature whose arguments no JSON can be made of."""
    inside = part.values() if isinstance(part, Mapping) else part
    for inner in inside if isinstance(part, (Mapping, list, tuple)) else ():
        if found := _unencodable_in(inner):
            return found
    if not isinstance(part, Mapping) or "task" not in part:
        return ""
    return "" if is_encodable([part["args"], part["kwargs"]]) else str(part["task"])
