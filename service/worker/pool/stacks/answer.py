"""Finds the stacks of a job in this process, and writes them to Redis for whoever has asked."""

import json
import logging
import threading
from collections.abc import Callable
from traceback import StackSummary
from typing import Any, Final, TypeAlias

from service.parts import parts_of
from service.worker.loop.bridge import Bridge
from service.worker.loop.celery_stacks import job_of
from service.worker.loop.process import process_of
from service.worker.loop.process_loop import ProcessLoop
from service.worker.pool.stacks.frames import (
    Stacks,
    awaiting_bridge,
    frames_of,
    frames_of_thread,
    innermost_of_job,
    stacks_of,
)

logger: Final = logging.getLogger(__name__)

Answer: TypeAlias = tuple[str, Stacks]  # a note for whoever asks, and the stacks of the job

NOT_HERE: Final = "The job does not run on this worker just now."

_TURN: Final = 0.5  # seconds for the loop to answer; one that is blocked is looked at from outside
_TTL: Final = 30  # seconds that the answer is there


def tell(app: Any, job_id: str, question: str, find: Callable[[Any, str], Answer]) -> None:
    """Find out where the job is, and write it to the key of this question."""
    try:
        note, stacks = find(app, job_id)
        texts = [(title, "".join(StackSummary.from_list(each).format())) for title, each in stacks]
        key = parts_of(app.quart_app).keys.stack_answer(question)
        with app.backend.client.pipeline() as pipe:
            pipe.rpush(key, json.dumps({"note": note, "stacks": texts}))
            pipe.expire(key, _TTL)
            pipe.execute()
    except Exception:
        logger.exception("Where job %s is could not be told", job_id)


def find_in_threads(app: Any, job_id: str) -> Answer:
    """Where a job is that a thread of this process runs, as under the pools threads and prefork."""
    if (innermost := innermost_of_job(job_id)) is None:
        return NOT_HERE, []
    if (bridge := awaiting_bridge(innermost)) is None:
        return "", [("The thread of the job", frames_of(innermost))]
    context = None if bridge.greenlet is None else bridge.greenlet.gr_context
    return look_at(bridge, context and job_of(context), process_of(app.quart_app).loop)


def look_at(bridge: Bridge, job: object, loop: ProcessLoop) -> Answer:
    """Where a bridge and the child tasks of its job are."""
    found: Stacks = []
    has_looked = threading.Event()

    def look() -> None:
        try:
            found.extend(stacks_of(bridge, job, loop.loop))
        finally:
            has_looked.set()

    loop.call_soon(look)
    if has_looked.wait(_TURN):
        return "", found
    note = "The event loop is blocked, by this job or by another one. This is where it is."
    return note, [("The event loop", frames_of_thread(loop.thread.ident or 0))]
