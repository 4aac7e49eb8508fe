"""Accepted jobs, as the code that enqueued them sees them."""

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

from service.errors import JobFailedError
from service.results.model import JobError
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
