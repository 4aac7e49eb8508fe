"""Runs an app's jobs in a test: on the test's own event loop, when the test says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, overload

from quart import Quart

from service.errors import JobFailedError
from service.jobs.handle import TaskHandle, TaskWithOptions
from service.jobs.job import Job, JobGroup
from service.parts import get_celery, parts_of
from service.redis.deadline import Deadline
from service.results.model import JobError, Result, State
from service.signals import JobEvent
from service.testing.enqueued import EnqueuedJob, name_of, read_enqueued
from service.testing.failures import Failures, raise_all, text_of
from service.testing.worker import InProcessWorker

P = ParamSpec("P")
V = TypeVar("V")

_LOOK_AGAIN = 0.01  # seconds: a job may wait for another one by now
_A_MOMENT = 0.001  # seconds beyond the time at which a job is due


class JobRunner:
    """An app that has started, and a worker for its jobs. `run_jobs` makes it.

    Jobs run when the test says so, `concurrency` at once. While something in the process waits for
    a job, a body or a request, all jobs run besides. `timeout` bounds each call, in seconds.
    """

    concurrency = 1
    timeout = 30.0

    def __init__(self, app: Quart) -> None:
        self.app = app
        self._parts = parts_of(app)
        celery = get_celery(app)
        self._sent: dict[str, None] = {}  # the ids of the jobs, in their order
        self._seen: dict[str, EnqueuedJob] = {}  # by id, what the worker was given
        self._failed: list[str] = []  # ids
        self._told: set[str] = set()  # those of them that the test knows of
        self._failures = Failures(celery)
        self._loop = asyncio.get_running_loop()
        self._worker = InProcessWorker(celery, self._on_message)

    @overload
    async def run(
        self, task: TaskHandle[P, Any, V] | TaskWithOptions[P, V], *args: P.args, **kwargs: P.kwargs
    ) -> V: ...
    @overload
    async def run(self, task: dict[str, Any]) -> Any: ...
    async def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a call of the task, or a signature, and run it; its value.

        Only this job runs, and those that it waits for; of a signature, all that it is made of.
        It does not wait for a countdown, an ETA or a retry. Raises what the body raised, with its
        traceback; JobFailedError where the job ended without success otherwise.
        """
        async with self.app.app_context():
            if isinstance(task, dict):  # as Celery's signatures are
                sent = await self._parts.enqueuer.send(task)
            else:
                sent = await task.enqueue(*args, **kwargs)
        return await self._value(sent, alone=not isinstance(task, dict))

    def enqueued(self, task: Any = None) -> list[EnqueuedJob]:
        """The jobs of a task, or of all, that were accepted so far, whether they have run or not.

        In the order in which they were enqueued.
        """
        found = dict(self._seen)
        for queue, headers, body in self._worker.waiting.read():
            found.setdefault(headers["id"], self._read(headers, body, queue))
        jobs = [found[job_id] for job_id in self._sent if job_id in found]
        return [job for job in jobs if task is None or job.task == name_of(task)]

    async def drain(self, *, raises: bool = True) -> None:
        """Run all jobs that are due, and those that they enqueue, until there are none.

        Then raise what a body raised, with its traceback, unless `raises` is false: of several an
        ExceptionGroup.
        """
        before = len(self._failed)
        await self._settle()
        if raises:
            await self._raise_failures(self._failed[before:])

    async def advance(self, by: float | timedelta, *, raises: bool = True) -> None:
        """Let so much time pass for jobs with a countdown, an ETA or a retry, in an instant.

        Runs what is due, in its order, as `drain` does. No other clock is moved.
        """
        before = len(self._failed)
        left = by.total_seconds() if isinstance(by, timedelta) else float(by)
        await self._settle()
        while left > 0 and (due := self._worker.waiting.next_due()) is not None:
            step = min(left, max(due, 0.0) + _A_MOMENT)
            self._worker.waiting.move_time(step)
            left -= step
            await self._settle()
        if raises:
            await self._raise_failures(self._failed[before:])

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run jobs as soon as they are due, as a worker does, while the block runs."""

        async def work() -> None:
            while True:
                self._worker.take()
                await self._step()

        working = asyncio.create_task(work())
        try:
            yield
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working

    def report(self) -> str:
        """The failures that were not raised in the test, with their tracebacks."""
        ids = [job_id for job_id in self._failed if job_id not in self._told]
        errors = ((job_id, self._failures.error_of(job_id)) for job_id in ids)
        return "\n".join(f"job {job_id}: {text_of(e) if e else 'ended'}" for job_id, e in errors)

    def start(self) -> None:
        """Be ready to run jobs; the app has started."""
        self._parts.signals.job_changed.connect(self._on_event)
        self._worker.start()

    async def stop(self) -> None:
        """Cancel the jobs that run; the app is to stop."""
        await self._worker.stop()
        self._parts.signals.job_changed.disconnect(self._on_event)

    async def close(self) -> None:
        """Give the loop back."""
        self._failures.close()
        await self._worker.close()

    def _on_message(self, message: Any) -> None:
        headers, queue = message.headers, message.delivery_info["routing_key"]
        self._seen.setdefault(headers["id"], self._read(headers, message.payload, queue))

    def _read(self, headers: Any, body: Any, queue: str) -> EnqueuedJob:
        return read_enqueued(self._parts.tasks, headers, body, queue)

    def _on_event(self, event: JobEvent) -> None:
        """Note what became of a job; called in any thread."""
        if event.state == "QUEUED":
            self._sent.setdefault(event.id)
        elif event.state == State.FAILURE:
            self._failed.append(event.id)
        self._loop.call_soon_threadsafe(self._worker.changed.set)

    async def _value(self, sent: Job[Any] | JobGroup, *, alone: bool) -> Any:
        if isinstance(sent, JobGroup):
            return [await self._value(job, alone=alone) for job in sent.jobs]
        while not (result := await self._parts.store.get(sent.id)).ready:
            if alone:
                begin = self._worker.take_job(sent.id)
                await self._settle(alone=True)
            else:
                due = self._worker.waiting.next_due()
                begin = due is not None or self._worker.waiting.count_due() > 0
                self._worker.waiting.move_time(max(due or 0.0, 0.0) + _A_MOMENT)
                await self._settle()
            if not begin and not (await self._parts.store.get(sent.id)).ready:
                raise AssertionError(
                    f"{sent!r} has not ended: its task or its queue is paused, or no queue has its"
                    " message."
                )
        if not result.successful:
            self._told.add(sent.id)
            raise await self._error(sent.id, result)
        handle = self._parts.tasks.get(sent.task)
        decode = None if handle is None else handle.arguments.result_decoder
        return result.result if decode is None else decode(result.result)

    async def _settle(self, *, alone: bool = False) -> None:
        """Work until no job runs and none is due; `alone`: begin none but those waited for."""
        try:
            async with Deadline(self.timeout):
                while self._begin(alone=alone) or self._worker.is_busy:
                    await self._step()
        except TimeoutError as error:
            running = ", ".join(map(repr, self._worker.running))
            raise TimeoutError(
                f"After {self.timeout:g} s these jobs still run: {running}"
            ) from error

    def _begin(self, *, alone: bool) -> int:
        if self._parts.watcher.waiters or self._worker.is_awaited:
            return self._worker.take()
        if alone:
            return 0
        return self._worker.take(self.concurrency - len(self._worker.running))

    async def _step(self) -> None:
        """Wait until something has changed, or for a moment, and tell the broker."""
        with suppress(TimeoutError):
            async with Deadline(_LOOK_AGAIN):
                await self._worker.changed.wait()
        self._worker.changed.clear()
        self._worker.tell_broker()

    async def _error(self, job_id: str, result: Result | None = None) -> BaseException:
        if (raised := self._failures.error_of(job_id)) is not None:
            return raised
        found = result or await self._parts.store.get(job_id)
        error = found.error or JobError(type="Error", message="no reason was stored")
        return JobFailedError(job_id, found.state, error.type, error.message)

    async def _raise_failures(self, job_ids: list[str]) -> None:
        errors = [await self._error(job_id) for job_id in job_ids]
        self._told.update(job_ids)
        raise_all(errors)
