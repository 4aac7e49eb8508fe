"""What an operator does to one job: cancel it, run it now, and run it again."""

from typing import Final

from quart import Blueprint, current_app, redirect, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict

from service.access.access import audit, caller_of, read_job, shows_arguments
from service.access.policy import Action
from service.broker.finding.message import hasten
from service.dashboard.pages.job.details import find
from service.dashboard.pages.sign_in import require
from service.errors import InvalidArgumentsError, UnknownTaskError
from service.jobs.handle import AnyHandle
from service.jobs.sending.message import Conditions
from service.parts import parts_of
from service.redis.bounded import bounded
from service.results.store import StoredRecord
from service.web.http.site import render
from service.web.jobs.views import JobView
from service.web.limits.checks import read_form
from service.web.tasks.forms import Field, fields_of, filled, values_of
from service.web.tasks.tasks import TaskView

_NOT_WAITING: Final = "The job does not wait for its time any more."

job_actions = Blueprint("job_actions", __name__)
job_actions.before_request(require(Action.OPERATE))


@job_actions.post("/<job_id>/cancel")
async def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel the job, whoever it belongs to."""
    await read_job(job_id, Action.CANCEL)
    caller = await caller_of()
    await parts_of(current_app).enqueuer.cancel(job_id, by=caller.id if caller else "")
    await audit("cancel", f"job {job_id}")
    return _back_to(job_id)


@job_actions.post("/<job_id>/now")
async def run_now(job_id: str) -> ResponseReturnValue:
    """Have a job that is scheduled, or is to be tried again, be the next one of its queue."""
    record, parts = await read_job(job_id, Action.SEE), parts_of(current_app)
    found = await find(parts, record)
    if found is None or found.due_at is None:
        raise Conflict(_NOT_WAITING)
    async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
        if not await hasten(parts.broker_redis, found):
            raise Conflict(_NOT_WAITING)
    await audit("run now", f"job {job_id}")
    return _back_to(job_id)


@job_actions.get("/<job_id>/again")
async def ask(job_id: str) -> ResponseReturnValue:
    """Ask with which arguments the job is to run again."""
    record = await read_job(job_id, Action.RUN_AGAIN)
    fields = await _fields(record)
    return await _form(record, fields)


@job_actions.post("/<job_id>/again")
async def run_again(job_id: str) -> ResponseReturnValue:
    """Start a job of the same task, for the same owner, and go to it."""
    record = await read_job(job_id, Action.RUN_AGAIN)
    handle, fields = _handle(record), await _fields(record)
    posted = await read_form()
    try:
        args, kwargs = handle.arguments.from_json(values_of(fields, posted, handle.name))
    except InvalidArgumentsError as error:
        fields = filled(fields, {name: posted[name] for name in posted}, as_text=True)
        return await _form(record, fields, str(error)), 400
    conditions = Conditions(owner=record.owner)
    started = await parts_of(current_app).enqueuer.enqueue_if(handle.name, args, kwargs, conditions)
    await audit("run again", f"job {job_id}, as {started.job_id}")
    return _back_to(started.job_id)


def _handle(record: StoredRecord) -> AnyHandle:
    """The job's task. Raises UnknownTaskError."""
    name = record.result.task or ""
    if (handle := parts_of(current_app).tasks.get(name)) is None:
        raise UnknownTaskError(name)
    return handle


async def _fields(record: StoredRecord) -> tuple[Field, ...]:
    """The form's fields, with the job's arguments in them where the caller may see those."""
    fields = fields_of(TaskView.of(_handle(record)).arguments)
    known = record.result.arguments if await shows_arguments(record) else None
    return filled(fields, known or {})


async def _form(record: StoredRecord, fields: tuple[Field, ...], problem: str = "") -> str:
    has_known = record.result.arguments is not None and await shows_arguments(record)
    return await render(
        "job/run_again.html",
        job=JobView(record.result, arguments=has_known),
        fields=fields,
        problem=problem,
        is_known=has_known,
    )


def _back_to(job_id: str) -> ResponseReturnValue:
    return redirect(url_for("service.results.show", job_id=job_id), 303)
