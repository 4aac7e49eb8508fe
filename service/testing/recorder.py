"""Records the jobs that an app enqueues, without any server; runs them at once if asked to."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, Final

from kombu.utils.json import dumps
from quart import Quart
from redis.asyncio import Redis

from service.broker.messages import decode_json
from service.errors import JobFinishedError
from service.extension import Jobs
from service.jobs.celery.app import QuartCelery
from service.jobs.celery.capture import PublishCall, PublishCapture
from service.jobs.job import CurrentJob, Job, running
from service.jobs.sending.canvas import CanvasContent
from service.jobs.sending.message import Accepted, SendRequest, publish_call_for
from service.parts import Parts, get_celery, parts_of
from service.results.model import JobError, Result, State
from service.testing.enqueued import EnqueuedJob, name_of, read_enqueued
from service.testing.failures import raise_all, text_of

_EMBEDDED: Final = ("callbacks", "chain", "chord")


class JobRecorder:
    """The jobs that an app would have enqueued. `record_jobs` makes it.

    With `at_once` a job that is enqueued by `await` runs before `enqueue` returns.
    """

    server = "The recorder"

    def __init__(self, app: Quart, *, at_once: bool = False) -> None:
        self.app = app
        self.at_once = at_once
        self._parts: Parts = parts_of(app)
        self.celery: QuartCelery = get_celery(app)
        self.capture = PublishCapture()
        self._begun: set[str] = set()
        self._results: dict[str, Result] = {}
        self._errors: dict[str, BaseException] = {}
        self._told: set[str] = set()
        self._idempotent: dict[tuple[str, str], Accepted] = {}

    def enqueued(self, task: Any = None) -> list[EnqueuedJob]:
        """The jobs of a task, or of all, that were enqueued so far, in their order."""
        jobs = map(self._read, self._calls)
        return [job for job in jobs if task is None or job.task == name_of(task)]

    async def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a call of the task and run it; its value. Raises what the body raised."""
        async with self.app.app_context():
            job: Job[Any] = await task.enqueue(*args, **kwargs)
        await self._run(job.id)
        if (error := self._errors.get(job.id)) is not None:
            self._told.add(job.id)
            raise error
        return await job.result()

    async def drain(self, *, raises: bool = True) -> None:
        """Run all recorded jobs that have not run, ETAs or not, and those that they enqueue.

        Then raise what a body raised, unless `raises` is false: of several an ExceptionGroup.
        """
        before = len(self._errors)
        while left := [call.job_id for call in self._calls if call.job_id not in self._begun]:
            await self._run(left[0])
        ids = [*self._errors][before:]
        errors = [self._errors[job_id] for job_id in ids]
        if raises:
            self._told.update(ids)
            raise_all(errors)

    def report(self) -> str:
        """The failures that were not raised in the test, with their tracebacks."""
        errors = [(job_id, e) for job_id, e in self._errors.items() if job_id not in self._told]
        return "\n".join(f"{job_id}\n{text_of(error)}" for job_id, error in errors)

    # The enqueuer's publisher.

    async def send(self, request: SendRequest) -> Accepted:
        """Record one call."""
        call, key = publish_call_for(request), request.conditions.idempotency_key
        if key and (earlier := self._idempotent.get((call.task, key))) is not None:
            return earlier
        dumps(call.body)  # raises EncodeError as a message does
        self.capture.calls.append(call)
        fingerprint = request.conditions.fingerprint
        if key:
            self._idempotent[call.task, key] = Accepted(call.job_id, False, fingerprint)
        if self.at_once:
            await self._run(call.job_id)
        return Accepted(call.job_id, queue=call.queue)

    async def send_canvas(self, contents: AsyncGenerator[CanvasContent, None]) -> None:
        """Record the first jobs of a canvas; those that follow are never sent."""
        async with aclosing(contents):
            calls = [call async for content in contents for call in content.calls]
        self.capture.calls += calls
        for call in calls:
            if self.at_once:
                await self._run(call.job_id)

    async def command(self, name: str, arguments: Mapping[str, Any], worker: str) -> None:
        """Nothing: there is no worker."""

    async def revoke(self, job_id: str) -> None:
        """Nothing: no worker has the job."""

    async def revoke_waiting(self, job_id: str, client: Redis, *, is_scheduled: bool) -> None:
        """Nothing: no queue has the job."""

    async def ping(self) -> None:
        """Nothing: there is no broker."""

    async def queue_counts(self, _: Iterable[str]) -> None:
        """Nothing: there are no queues."""

    async def aclose(self) -> None:
        """Nothing: there are no connections."""

    async def wait(self, job_id: str, timeout: float) -> Result:
        """The job's result, if it has run (Job asks for it). Raises AssertionError if not."""
        if (result := self._results.get(job_id)) is None:
            raise AssertionError(
                f"Job {job_id} was recorded and has not run, so it has no result. Run it by"
                " `drain`, set `at_once`, or use the fixture `jobs`, which has a worker."
            )
        return result

    async def cancel(self, job_id: str) -> Result:
        """Have a job that has not run be REVOKED, and never run. Raises JobFinishedError."""
        if (result := self._results.get(job_id)) is not None:
            raise JobFinishedError(job_id, result.state)
        if job_id not in self._begun:
            self._begun.add(job_id)
            error = JobError(type="TaskRevokedError", message="cancelled")
            self._results[job_id] = Result(id=job_id, state=State.REVOKED, error=error)
            return self._results[job_id]
        return Result(id=job_id, state=State.STARTED)

    @property
    def _calls(self) -> list[PublishCall]:
        return [call for call in self.capture.calls if call.job_id]  # not Celery's own events

    def _read(self, call: PublishCall) -> EnqueuedJob:
        queue = call.options.get("queue") or call.options.get("routing_key")
        body = decode_json(dumps(call.body))
        return read_enqueued(
            self._parts.tasks, call.options["headers"], body, str(getattr(queue, "name", queue))
        )

    async def _run(self, job_id: str) -> None:
        if job_id in self._begun:
            return
        self._begun.add(job_id)
        call = next(call for call in self._calls if call.job_id == job_id)
        if any(call.body[2].get(name) for name in _EMBEDDED):
            raise NotImplementedError(
                f"Job {job_id} is a part of a canvas, of which the rest needs a server. Use the"
                " fixture `jobs`."
            )
        handle = self._parts.tasks[call.task]
        try:
            value = handle.arguments.encode_result(await self._call(call))
        except Exception as error:  # noqa: BLE001  it is the job's
            self._errors[job_id] = error
            failure = JobError(type=type(error).__name__, message=str(error))
            self._results[job_id] = Result(id=job_id, state=State.FAILURE, error=failure)
        else:
            stored = decode_json(dumps(value))
            self._results[job_id] = Result(id=job_id, state=State.SUCCESS, result=stored)

    async def _call(self, call: PublishCall) -> Any:
        handle = self._parts.tasks[call.task]
        args, kwargs, _ = decode_json(dumps(call.body))
        args, kwargs = handle.arguments.decode(args, kwargs)
        function = handle.function
        if handle.celery_options["bind"]:
            function = partial(function, self.celery.task_named(call.task))
        token = running.set(CurrentJob(call.job_id, call.task, 0, lambda _: None))
        try:
            async with self.app.app_context():
                if inspect.iscoroutinefunction(handle.function):
                    return await function(*args, **kwargs)
                value = await asyncio.to_thread(function, *args, **kwargs)
                return await value if inspect.isawaitable(value) else value
        finally:
            running.reset(token)


@contextmanager
def record_jobs(host: Quart | Jobs, *, at_once: bool = False) -> Iterator[JobRecorder]:
    """Record what an app that has jobs enqueues. The app is not started, and no server is needed.

    `host` is a Quart app, or the Jobs of a host of another kind.
    """
    app = host.app if isinstance(host, Jobs) else host
    recorder, parts = JobRecorder(app, at_once=at_once), parts_of(app)
    parts.enqueuer.publish_by(recorder, recorder)
    recorder.celery.capture = recorder.capture
    listening, parts.signals.job_changed.receivers = parts.signals.job_changed.receivers, []
    for handle in parts.tasks.values():
        handle.serving.append(parts)
    try:
        yield recorder
    finally:
        for handle in parts.tasks.values():
            handle.serving.remove(parts)
        parts.signals.job_changed.receivers = listening
        recorder.celery.capture = None
        parts.enqueuer.publish_by(None, None)
