"""What a task can ask about its own job while it runs."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from werkzeug.local import LocalProxy

from service.results.model import Progress


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
