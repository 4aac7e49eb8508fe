"""Answers an operator who asks where a job is just now, by a command of Celery's remote control."""

import json
import logging
import threading
from traceback import StackSummary
from typing import Any, Final

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker import state as worker_state
from celery.worker.control import control_command

from service.logs.ids import is_harmless
from service.parts import parts_of
from service.worker.loop.process import process_of
from service.worker.loop.process_loop import ProcessLoop
from service.worker.pool.pool import AsyncioPool
from service.worker.pool.running_job import RunningJob
from service.worker.pool.stacks import Stacks, frames_of_thread, stacks_of

logger: Final = logging.getLogger(__name__)

_TURN: Final = 0.5  # seconds for the loop to answer; one that is blocked is looked at from outside
_TTL: Final = 30  # seconds that the answer is there
_NOT_HERE: Final = "The job does not run on this worker just now."
_PREFORK: Final = (
    "This worker runs each job in a process of its own (prefork). On its machine,"
    " `py-spy dump --pid {pid}` shows where this one is."
)
_OTHER_POOL: Final = "Where a job is can be shown under the asyncio pool alone."


@control_command(args=[("job_id", str), ("question", str)], visible=False)
def tell_stack(state: Any, job_id: str, question: str) -> None:
    """Write where the job is to the key of this question. In the worker's main thread."""
    if is_harmless(question):
        threading.Thread(
            target=_find_and_tell,
            args=(state.consumer, job_id, question),
            name="stack",
            daemon=True,
        ).start()


def _find_and_tell(consumer: Any, job_id: str, question: str) -> None:
    """Find out, and write. In a thread, as the loop may be blocked, and Redis away."""
    app = consumer.app
    try:
        note, stacks = _find_stacks(consumer.pool, app, job_id)
        texts = [(title, "".join(StackSummary.from_list(each).format())) for title, each in stacks]
        key = parts_of(app.quart_app).keys.stack_answer(question)
        with app.backend.client.pipeline() as pipe:
            pipe.rpush(key, json.dumps({"note": note, "stacks": texts}))
            pipe.expire(key, _TTL)
            pipe.execute()
    except Exception:
        logger.exception("Where job %s is could not be told", job_id)


def _find_stacks(pool: Any, app: Any, job_id: str) -> tuple[str, Stacks]:
    """A note for whoever asks, and the stacks of the job."""
    request = worker_state.requests.get(job_id)
    if request is None or request not in worker_state.active_requests:
        return _NOT_HERE, []
    if isinstance(pool, PreforkPool):
        return _PREFORK.format(pid=request.worker_pid), []
    if not isinstance(pool, AsyncioPool):
        return _OTHER_POOL, []
    if (job := pool.find_job(job_id)) is None:
        return _NOT_HERE, []
    return _look_at(job, process_of(app.quart_app).loop)


def _look_at(job: RunningJob, loop: ProcessLoop) -> tuple[str, Stacks]:
    found: Stacks = []
    has_looked = threading.Event()

    def look() -> None:
        try:
            found.extend(stacks_of(job, loop.loop))
        finally:
            has_looked.set()

    loop.call_soon(look)
    if has_looked.wait(_TURN):
        return "", found
    note = "The event loop is blocked, by this job or by another one. This is where it is."
    return note, [("The event loop", frames_of_thread(loop.thread.ident or 0))]
