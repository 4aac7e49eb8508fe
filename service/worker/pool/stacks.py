"""Finds where a running job is: the frames of its body and of its child tasks."""

import asyncio
import sys
from collections.abc import Iterator
from traceback import FrameSummary, StackSummary, walk_stack
from types import FrameType
from typing import Any, Final

from service.worker.loop.bridge import await_
from service.worker.loop.celery_stacks import job_of
from service.worker.loop.child_tasks import ChildCoroutine
from service.worker.pool.running_job import RunningJob

Stacks = list[tuple[str, list[FrameSummary]]]  # each with what it is the stack of

_MOST_TASKS: Final = 20  # child tasks that are shown
_MOST_FRAMES: Final = 200  # of one stack
_AWAITS: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def stacks_of(job: RunningJob, loop: asyncio.AbstractEventLoop) -> Stacks:
    """The stacks of a job that waits: to be called on the loop, from no job's context.

    Its lines of code are not read yet, which may take long.
    """
    if (thread := job.bridge.thread) is not None:
        found = [("The body, in a thread", frames_of_thread(thread))]
    else:
        found = [("The body", _frames([*_waiting_frames(job.bridge.greenlet)]))]
    children = [
        task
        for task in asyncio.all_tasks(loop)
        if isinstance(coroutine := task.get_coro(), ChildCoroutine)
        and job_of(coroutine.context) is job
    ]
    for task in children[:_MOST_TASKS]:
        frames = _frames([*_awaited_frames(task.get_coro())])
        found.append((f"The asyncio task {task.get_name()}", frames))
    if len(children) > _MOST_TASKS:
        found.append((f"{len(children) - _MOST_TASKS:,} asyncio tasks more", []))
    return found


def frames_of_thread(thread: int) -> list[FrameSummary]:
    """Where a thread is; nothing if it has ended."""
    innermost = sys._current_frames().get(thread)  # noqa: SLF001  its only name
    return _frames(_outermost_first(innermost))


def _waiting_frames(greenlet: Any) -> Iterator[FrameType]:
    """The frames of a bridge's greenlet, and of the coroutine that it waits for."""
    frames = _outermost_first(None if greenlet is None else greenlet.gr_frame)
    yield from frames
    if frames and frames[-1].f_code is await_.__code__:
        yield from _awaited_frames(frames[-1].f_locals["awaitable"])


def _awaited_frames(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, and of those that it waits for."""
    while awaitable is not None:
        for frame, awaits in _AWAITS:
            if (found := getattr(awaitable, frame, None)) is not None:
                yield found
                awaitable = getattr(awaitable, awaits)
                break
        else:
            return


def _outermost_first(innermost: FrameType | None) -> list[FrameType]:
    return [frame for frame, _ in walk_stack(innermost)][::-1] if innermost is not None else []


def _frames(frames: list[FrameType]) -> list[FrameSummary]:
    last = ((frame, frame.f_lineno) for frame in frames[-_MOST_FRAMES:])
    return [*StackSummary.extract(last, lookup_lines=False)]
