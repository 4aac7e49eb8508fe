"""Reads a canvas by Celery's own code: its first messages, and the jobs that follow from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery.result import GroupResult

from service.jobs.arguments import is_encodable
from service.jobs.celery.capture import PublishCall, capture_publishes
from service.jobs.sending.message import BuiltMessage
from service.results.record import encode_queued, now


@dataclass(frozen=True, slots=True)
class CanvasContent:
    """What sending a canvas takes.

    `calls` publish its first messages; `followers` are the records of jobs that other jobs will
    send. `tasks` has the task of each job by its id, where it is known. `result` is Celery's.
    """

    result: Any
    calls: list[PublishCall]
    tasks: dict[str, str]
    followers: list[BuiltMessage]


def read_canvas(canvas: Any) -> CanvasContent:
    """Have Celery send the canvas into a capture. Takes long for a long group or chord."""
    with capture_publishes() as calls:
        result = canvas.apply_async()
    sent = {call.job_id: call.task for call in calls}
    tasks = dict(_tasks_in([call.body for call in calls])) | sent
    moment = now()
    followers = [
        BuiltMessage(
            job_id, tasks.get(job_id), "", encode_queued(job_id, tasks.get(job_id), moment)
        )
        for job_id in dict.fromkeys(_ids_of(result))
        if job_id not in sent
    ]
    return CanvasContent(result, calls, tasks, followers)


def is_simple(canvas: Any) -> bool:
    """Whether it is a signature, or a chain of such: Celery makes one message of it at once."""
    if canvas.subtask_type == "chain":
        return all(is_simple(task) for task in canvas.tasks)
    return canvas.subtask_type is None and "chord" not in canvas.options


def unencodable_in(part: Any) -> str:
    """The task of the innermost signature whose arguments are not JSON."""
    inside = part.values() if isinstance(part, Mapping) else part
    for inner in inside if isinstance(part, (Mapping, list, tuple)) else ():
        if found := unencodable_in(inner):
            return found
    if not isinstance(part, Mapping) or "task" not in part:
        return ""
    return "" if is_encodable([part["args"], part["kwargs"]]) else str(part["task"])


def _ids_of(result: Any) -> Iterator[str]:
    """The id of each job that a canvas will make, its first ones included."""
    while result is not None:
        if isinstance(result, GroupResult):
            for one in result.results or ():
                yield from _ids_of(one)
        else:
            yield result.id
        result = result.parent


def _tasks_in(part: Any) -> Iterator[tuple[str, str]]:
    """The ids and tasks of the signatures in the bodies of messages."""
    if isinstance(part, Mapping):
        job_id = (part.get("options") or {}).get("task_id") if "task" in part else None
        if job_id:
            yield job_id, part["task"]
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for inner in part:
            yield from _tasks_in(inner)
