"""What a test sees of a job that was enqueued."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.errors import InvalidArgumentsError
from service.jobs.blueprint import TaskRegistry


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """A job that was accepted, with arguments of the types that its task is annotated with.

    `eta` is when it was to run first; None is at once.
    """

    id: str
    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str
    eta: datetime | None = None


def read_enqueued(
    tasks: TaskRegistry, headers: Mapping[str, Any], body: Any, queue: str
) -> EnqueuedJob:
    """The job of a message of Celery's protocol 2, whose body was decoded."""
    name, eta = str(headers["task"]), headers.get("eta")
    args: Sequence[Any] = body[0]
    kwargs: Mapping[str, Any] = body[1]
    handle = tasks.get(name)
    if handle is not None:
        with suppress(InvalidArgumentsError):  # then they are seen as they were sent
            args, kwargs = handle.arguments.decode(args, kwargs)
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    return EnqueuedJob(str(headers["id"]), name, tuple(args), kwargs, queue, moment)


def name_of(task: Any) -> str:
    """The name of a task: of a handle, of one of Celery's tasks, or the name itself."""
    return task if isinstance(task, str) else str(task.name)
