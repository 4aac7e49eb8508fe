"""Finds where a running job is: the frames of its body and of its child tasks."""

import asyncio
import sys
from collections.abc import Iterator
from traceback import FrameSummary, StackSummary, walk_stack
from types import FrameType
from typing import Any, Final

from service.worker.loop.bridge import Bridge, await_
from service.worker.loop.celery_stacks import job_of
from service.worker.loop.child_tasks import ChildCoroutine
from service.worker.loop.process_loop import ProcessLoop

Stacks = list[tuple[str, list[FrameSummary]]]  # each with what it is the stack of

_MOST_TASKS: Final = 20  # child tasks that are shown
_MOST_FRAMES: Final = 200  # of one stack
_TRACER: Final = "trace_task"  # of celery.app.trace: it has the job's id as its `uuid`
_AWAITS: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def stacks_of(bridge: Bridge, job: object, loop: asyncio.AbstractEventLoop) -> Stacks:
    """The stacks of a job that waits: to be called on the loop, from no job's context.

    `job` is what its context has entered as its job, if it has. The lines of code are not read
    yet, which may take long.
    """
    if (thread := bridge.thread) is not None:
        found = [("The body, in a thread", frames_of_thread(thread))]
    else:
        found = [("The body", _frames([*_waiting_frames(bridge.greenlet)]))]
    children = [
        task
        for task in asyncio.all_tasks(loop)
        if isinstance(coroutine := task.get_coro(), ChildCoroutine)
        and job_of(coroutine.context) is job is not None
    ]
    for task in children[:_MOST_TASKS]:
        frames = _frames([*_awaited_frames(task.get_coro())])
        found.append((f"The asyncio task {task.get_name()}", frames))
    if len(children) > _MOST_TASKS:
        found.append((f"{len(children) - _MOST_TASKS:,} asyncio tasks more", []))
    return found


def frames_of_thread(thread: int) -> list[FrameSummary]:
    """Where a thread is; nothing if it has ended."""
    return frames_of(sys._current_frames().get(thread))  # noqa: SLF001  its only name


def frames_of(innermost: FrameType | None) -> list[FrameSummary]:
    """A frame and those that it was called from, the outermost first."""
    return _frames(_outermost_first(innermost))


def innermost_of_job(job_id: str) -> FrameType | None:
    """Where the thread is in which Celery's tracer runs this job; None if there is none."""
    for innermost in sys._current_frames().values():  # noqa: SLF001  its only name
        for frame, _ in walk_stack(innermost):
            if frame.f_code.co_name == _TRACER and frame.f_locals.get("uuid") == job_id:
                return innermost
    return None


def awaiting_bridge(innermost: FrameType) -> Bridge | None:
    """The bridge on the loop for which this frame's thread waits, if it does."""
    for frame, _ in walk_stack(innermost):
        if frame.f_code is ProcessLoop.run.__code__:
            bridge: Bridge | None = frame.f_locals.get("bridge")
            return bridge
    return None


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
