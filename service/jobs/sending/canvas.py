"""Reads a canvas by Celery's own code: its first messages, and the jobs that follow from them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, Final, TypeAlias

from celery.canvas import group, maybe_signature
from celery.result import GroupResult
from kombu.utils.uuid import uuid

from service.jobs.celery.capture import PublishCall, capture_publishes
from service.jobs.codecs import is_encodable
from service.jobs.sending.message import BuiltMessage
from service.results.record import encode_queued, now

_LONG: Final = 100  # members of a group; a longer one is read in slices
_NAMED: Final = 20  # of the jobs that a later job waits for, in its record
_SLICE: Final = 10  # members that are read at once: other threads get little done meanwhile

# The id of a job and its task, or of a group and its members: tuples of text, which Python's
# garbage collector does not look at again, as it would at a hundred thousand jobs.
Made: TypeAlias = "tuple[str, str | tuple[Made, ...]]"


@dataclass(frozen=True, slots=True)
class CanvasContent:
    """What sending a canvas takes, or a slice of a long group.

    `calls` publish its first messages; `followers` are the records of jobs that other jobs will
    send; `stores` are calls of the result backend to be made before. `made` is what its caller is
    given.
    """

    made: Made
    calls: list[PublishCall]
    followers: list[BuiltMessage]
    stores: list[Callable[[], object]]


def read_canvas(celery: Any, signature: Any, owner: str | None = None) -> Iterator[CanvasContent]:
    """Have Celery send the canvas, for an owner, into a capture. Takes long for a long chord.

    A long group is read in slices, one at a step: Celery itself would keep some kilobytes for each
    member, and one look of Python's garbage collector at all of that stops every thread for long.
    """
    if not _is_long_group(signature):
        yield _read(maybe_signature(signature, app=celery, clone=True), owner)
        return
    options, members = dict(signature["options"]), iter(signature["kwargs"]["tasks"])
    group_id = options.setdefault("task_id", uuid())
    for start in count(0, _SLICE):
        if not (part := [*islice(members, _SLICE)]):
            return
        content = _read(group(part, app=celery, **options), owner)
        for call in content.calls:
            headers = call.options["headers"]
            if headers.get("group_index") is not None:
                headers["group_index"] += start
        if content.made[0] != group_id:  # Celery unwraps a lone member that ends in a group
            content = replace(content, made=(group_id, (content.made,)))
        yield content


async def read_in_steps(  # noqa: PLR0913  the last three by name
    celery: Any,
    signature: Any,
    owner: str | None,
    *,
    sent: list[tuple[Any, ...]],
    made: list[Made],
    run: Callable[[Callable[[], object]], Awaitable[object]],
) -> AsyncGenerator[CanvasContent, None]:
    """Read a canvas, step by step, and in a thread where that may take long.

    Notes the jobs that its messages are, and what its caller is given. What the result backend is
    to do before is done by `run`.
    """
    contents = read_canvas(celery, signature, owner)

    def step() -> CanvasContent | None:
        content = next(contents, None)
        if content is not None:
            sent.extend(call.as_queued for call in content.calls if call.job_id)
            made.append(content.made)
        return content

    simple = is_simple(signature)
    while (content := step() if simple else await asyncio.to_thread(step)) is not None:
        if stores := content.stores:
            await run(lambda: [store() for store in stores])
        yield content


def _is_long_group(signature: Any) -> bool:
    """Whether it is a group to be read in slices; the parts of a chord are counted as one."""
    if signature["subtask_type"] != "group":
        return False
    first = [*islice(signature["kwargs"]["tasks"], _LONG + 1)]
    return len(first) > _LONG and "chord" not in {**signature["options"], **first[0]["options"]}


def _read(canvas: Any, owner: str | None) -> CanvasContent:
    with capture_publishes(owner) as capture:
        result = canvas.apply_async()
    calls = capture.calls
    sent = {call.job_id: call.task for call in calls}
    tasks = dict(_tasks_in([call.body for call in calls])) | sent
    moment, owner = now(), next((call.owner for call in calls if call.owner), owner)
    followers = [
        BuiltMessage(
            job_id,
            tasks.get(job_id),
            "",
            encode_queued(job_id, tasks.get(job_id), moment, owner=owner, waits_for=before),
        )
        for job_id, before in dict(_jobs_of(result)).items()
        if job_id not in sent
    ]
    return CanvasContent(_made(result, tasks), calls, followers, capture.stores)


def _made(result: Any, tasks: Mapping[str, str]) -> Made:
    if isinstance(result, GroupResult):
        return str(result.id), tuple([_made(one, tasks) for one in result.results or ()])
    return str(result.id), tasks.get(result.id, "")


def is_simple(canvas: Any) -> bool:
    """Whether it is a signature, or a chain of such: Celery makes one message of it at once."""
    if canvas["subtask_type"] == "chain":
        return all(is_simple(task) for task in canvas["kwargs"]["tasks"])
    return canvas["subtask_type"] is None and "chord" not in canvas["options"]


def unencodable_in(part: Any) -> str:
    """The task of the innermost signature whose arguments are not JSON."""
    inside = part.values() if isinstance(part, Mapping) else part
    for inner in inside if isinstance(part, (Mapping, list, tuple)) else ():
        if found := unencodable_in(inner):
            return found
    if not isinstance(part, Mapping) or "task" not in part:
        return ""
    return "" if is_encodable([part["args"], part["kwargs"]]) else str(part["task"])


def _jobs_of(result: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each job that a canvas will make, its first ones included, and those that it waits for."""
    while result is not None:
        if isinstance(result, GroupResult):
            for one in result.results or ():
                yield from _jobs_of(one)
        else:
            yield result.id, (*islice(_last_ones(result.parent), _NAMED),)
        result = result.parent


def _last_ones(result: Any) -> Iterator[str]:
    """The jobs whose end ends what this is the result of."""
    if isinstance(result, GroupResult):
        for one in result.results or ():
            yield from _last_ones(one)
    elif result is not None:
        yield result.id


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
