"""Hears an operator ask where a job is just now, by a command of Celery's remote control."""

import threading
from functools import partial
from typing import Any, Final

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state as worker_state
from celery.worker.control import control_command

from service.logs.ids import is_harmless
from service.worker.loop.process import process_of
from service.worker.pool.pool import AsyncioPool
from service.worker.pool.stacks.answer import NOT_HERE, Answer, find_in_threads, look_at, tell

_BUSY_CHILD: Final = (
    "The process that runs the job does not answer: code in C may hold Python's lock, or the worker"
    " has added this process since it started. On its machine, `py-spy dump --pid {pid}` shows"
    " where the job is."
)
_OTHER_POOL: Final = (
    "Where a job is can be shown under the pools asyncio, prefork and threads: this one has nothing"
    " by which its jobs could be told apart."
)


@control_command(args=[("job_id", str), ("question", str)], visible=False)
def tell_stack(state: Any, job_id: str, question: str) -> None:
    """Write where the job is to the key of this question. In the worker's main thread."""
    if is_harmless(question):
        threading.Thread(
            target=_ask_pool,
            args=(state.consumer, job_id, question),
            name="stack",
            daemon=True,
        ).start()


def _ask_pool(consumer: Any, job_id: str, question: str) -> None:
    """Find out, and write. In a thread, as the loop may be blocked, and Redis away."""
    app, pool = consumer.app, consumer.pool
    request = worker_state.requests.get(job_id)
    if request is None or request not in worker_state.active_requests:
        tell(app, job_id, question, lambda *_: (NOT_HERE, []))
    elif not isinstance(pool, PreforkPool):
        tell(app, job_id, question, partial(_find_here, pool))
    elif not consumer.controller.child_questions.ask(pool, request.worker_pid, job_id, question):
        note = _BUSY_CHILD.format(pid=request.worker_pid)
        tell(app, job_id, question, lambda *_: (note, []))


def _find_here(pool: Any, app: Any, job_id: str) -> Answer:
    if isinstance(pool, ThreadPool):
        return find_in_threads(app, job_id)
    if not isinstance(pool, AsyncioPool):
        return _OTHER_POOL, []
    if (job := pool.find_job(job_id)) is None:
        return NOT_HERE, []
    return look_at(job.bridge, job, process_of(app.quart_app).loop)
