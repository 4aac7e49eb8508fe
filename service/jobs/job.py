"""Jobs as code sees them: those that it enqueued, and the one that it runs in."""

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from werkzeug.local import LocalProxy

from service.errors import JobFailedError
from service.results.model import JobError, Progress, Result

V = TypeVar("V")


class JobControl(Protocol):
    """Waits for jobs, and cancels them: the enqueuer, or what records jobs in a test."""

    async def wait(self, job_id: str, timeout: float) -> Result:
        """The job's result once it has ended."""

    async def cancel(self, job_id: str) -> Result:
        """What is known of the job when it is cancelled, or its worker was told to."""


class Job(Generic[V]):
    """One accepted call of a task. `id` is the job's id, under which its result is stored."""

    __slots__ = ("_control", "_decode", "id", "task")

    def __init__(
        self,
        job_id: str,
        task: str,
        control: JobControl,
        decode: Callable[[Any], V] | None = None,
    ) -> None:
        """`decode` makes the job's value of the JSON that is stored; None: it is the value."""
        self.id = job_id
        self.task = task
        self._control = control
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.task}>"

    async def result(self, *, timeout: float = 60.0) -> V:
        """Wait until the job has ended, for at most `timeout` seconds, and return its value.

        Raises JobFailedError if it ended without one, ResultTimeoutError if it has not ended,
        UnexpectedResultError if its value is not what the task is annotated to return, and
        ResultsUnavailableError if Redis does not answer.
        """
        found = await self._control.wait(self.id, timeout)
        if found.successful:
            return self._decode(found.result) if self._decode else cast("V", found.result)
        error = found.error or JobError(type="Error", message="no reason was stored")
        raise JobFailedError(self.id, found.state, error.type, error.message)

    async def cancel(self) -> None:
        """Cancel the job: one that waits never starts, one that runs is stopped as its pool can.

        `result` raises JobFailedError, with the state REVOKED, once it has ended so. Raises
        JobFinishedError if it has ended already, UnknownJobError if nothing is known of it any
        more, and ResultsUnavailableError and BrokerUnavailableError if Redis does not answer.
        """
        await self._control.cancel(self.id)


class JobGroup:
    """The accepted calls of a group, in its order; a group within it is a JobGroup too."""

    def __init__(self, group_id: str, jobs: "Callable[[], Iterable[Job[Any] | JobGroup]]") -> None:
        """`jobs` gives them; it is called where somebody asks for them, as they may be many."""
        self.id = group_id
        self._make_jobs = jobs

    @cached_property
    def jobs(self) -> "tuple[Job[Any] | JobGroup, ...]":
        """The jobs."""
        return tuple(self._make_jobs())

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
    request_id: str | None = None  # of the HTTP request that the job was enqueued in
    started_at: str | None = None  # ISO time, of this attempt


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
