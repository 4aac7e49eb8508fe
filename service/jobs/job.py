"""Jobs as code sees them: those that it enqueued, and the one that it runs in."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from werkzeug.local import LocalProxy

from service.errors import JobFailedError
from service.results.model import JobError, Progress
from service.results.watcher import Watcher

V = TypeVar("V")


class Job(Generic[V]):
    """One accepted call of a task. `id` is the job's id, under which its result is stored."""

    def __init__(self, job_id: str, task: str, watcher: Watcher) -> None:
        self.id = job_id
        self.task = task
        self._watcher = watcher

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.task}>"

    async def result(self, *, timeout: float = 60.0) -> V:
        """Wait until the job has ended, for at most `timeout` seconds, and return its value.

        Raises JobFailedError if it ended without one, ResultTimeoutError if it has not ended,
        ResultsUnavailableError if Redis does not answer.
        """
        found = await self._watcher.wait(self.id, timeout)
        if found.successful:
            return cast("V", found.result)
        error = found.error or JobError(type="Error", message="no reason was stored")
        raise JobFailedError(self.id, found.state, error.type, error.message)


class JobGroup:
    """The accepted calls of a group, in its order; a group within it is a JobGroup too."""

    def __init__(self, group_id: str, jobs: "Sequence[Job[Any] | JobGroup]") -> None:
        self.id = group_id
        self.jobs = tuple(jobs)

    def __repr__(self) -> str:
        return f"<JobGroup {self.id}: {len(self.jobs)} jobs>"

    async def result(self, *, timeout: float = 60.0) -> list[Any]:
        """Wait until every job has ended, and return their values. Raises as `Job.result` does."""
        waiting = [asyncio.ensure_future(job.result(timeout=timeout)) for job in self.jobs]
        try:
            return await asyncio.gather(*waiting)
        finally:
            for one in waiting:
                one.cancel()


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job whose body the calling code belongs to."""

    id: str
    task: str
    retries: int
    report: Callable[[Progress], None] = field(repr=False, compare=False)


# Set by ContextTask while a body runs. Child asyncio tasks and `asyncio.to_thread` copy it.
running: Final[ContextVar[CurrentJob]] = ContextVar("running_job")

current_job: CurrentJob = LocalProxy(  # type: ignore[assignment]  # a proxy stands for its object
    running,
    unbound_message="There is no current job: this code does not run inside a task.",
)


def report_progress(current: float, total: float | None = None, note: str = "") -> None:
    """Show everyone who follows the job how far it is.

    `current` of `total` units of work are done; leave `total` out where it is not known. Does
    nothing where the task's function was called directly, as there is no job then.
    """
    job = running.get(None)
    if job is not None:
        job.report(Progress(current=current, total=total, note=note))
