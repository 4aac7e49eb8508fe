"""Shows where a running job is just now, as its worker tells."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from quart import Blueprint, current_app
from quart.typing import ResponseReturnValue

from service.access.access import read_job
from service.access.policy import Action
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.job.attempts import text_in
from service.dashboard.pages.job.frames import Trace, read_trace
from service.dashboard.pages.sign_in import require
from service.parts import parts_of
from service.redis.bounded import bounded
from service.results.decoding import record_fields
from service.results.model import State
from service.results.store import StoredRecord
from service.web.http.site import render

_RUNS: Final = frozenset({State.STARTED, State.PROGRESS})

_PATIENCE: Final = 3.0  # seconds
_PAUSE: Final = 0.05
_NOT_RUNNING: Final = "The job does not run just now."
_OFF: Final = (
    "Remote control is off for the workers (`worker_enable_remote_control`), so that nobody can ask"
    " them."
)
_SOLO: Final = (
    "The worker {worker} runs its jobs in its main thread (the pool `solo`), and no other could"
    " answer: on its machine, `py-spy dump --pid` with the worker's process id shows where the job"
    " is."
)
_SILENT: Final = (
    "The worker {worker} has not answered: its main thread may be busy; or it stops, or was lost."
)

job_stack = Blueprint("job_stack", __name__)
job_stack.before_request(require(Action.OPERATE))


@job_stack.get("/<job_id>/stack")
async def show(job_id: str) -> ResponseReturnValue:
    """Ask the worker that runs the job, and show the frames of its body and its child tasks."""
    record = await read_job(job_id, Action.SEE_OUTPUT)
    note, stacks = await _ask(record)
    page = await render("job/stack.html", job=record.result, note=note, stacks=stacks)
    return page, {"Cache-Control": "no-store"}


async def _ask(record: StoredRecord) -> tuple[str, list[tuple[str, Trace]]]:
    """What there is to say, and each stack with its title. Raises BrokerUnavailableError."""
    parts, worker = parts_of(current_app), text_in(record_fields(record.data).get("worker"))
    if record.result.state not in _RUNS or not worker:
        return _NOT_RUNNING, []
    if not parts.celery.get().conf.worker_enable_remote_control:
        return _OFF, []
    now = await dashboard_of(current_app).reader.refresh()
    if any(each.name == worker and each.status.pool == "solo" for each in now.workers):
        return _SOLO.format(worker=worker), []
    question = uuid4().hex
    arguments = {"job_id": record.job_id, "question": question}
    publisher = await parts.enqueuer.publisher()
    await publisher.command("tell_stack", arguments, worker)
    answer = await _wait_for_answer(parts.keys.stack_answer(question))
    if answer is None:
        return _SILENT.format(worker=worker), []
    return text_in(answer.get("note")), [
        (title, read_trace(f"Stack (most recent call last):\n{text}"))
        for title, text in answer.get("stacks", ())
    ]


async def _wait_for_answer(key: str) -> dict[str, Any] | None:
    """What the worker answers; None if it does not. Raises ResultsUnavailableError."""
    parts, give_up_at = parts_of(current_app), time.monotonic() + _PATIENCE
    while time.monotonic() < give_up_at:
        async with bounded(parts.settings.redis_timeout):
            stored: Any = await parts.redis.lpop(key)
        if stored is not None:
            with suppress(ValueError):
                found: dict[str, Any] = json.loads(stored)
                return found
        await asyncio.sleep(_PAUSE)
    return None
