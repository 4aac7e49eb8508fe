"""Shows one task, pauses and resumes it."""

from quart import Blueprint, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.access.policy import Action
from service.broker.pauses import Kind
from service.dashboard.events.snapshot import Snapshot
from service.dashboard.events.stats import TaskStats
from service.dashboard.extension import dashboard_of
from service.dashboard.pages import pausing
from service.dashboard.pages.sign_in import require
from service.parts import parts_of
from service.web.http.site import render

task = Blueprint("task", __name__)
task.before_request(require(Action.WATCH))


@task.get("")
async def show() -> ResponseReturnValue:
    """The task that the address names."""
    name, now = await _known_task()
    page = await render(
        "dashboard/task.html",
        task=name,
        stats=now.tasks.get(name, TaskStats()),
        paused=now.paused_tasks.get(name),
        **await pausing.shown_form(),
    )
    return page, {"Cache-Control": "no-store"}


@task.post("")
async def change() -> ResponseReturnValue:
    """Pause the task, or resume it, as `act` says."""
    await pausing.check_may_pause()
    name, _ = await _known_task()
    await pausing.change(Kind.TASK, name)
    return redirect(url_for("service.task.show", task=name), 303)


async def _known_task() -> tuple[str, Snapshot]:
    """The task's name from the address, and the snapshot.

    Raises NotFound unless the app has the task, or it had jobs within the hour, or is paused.
    """
    name, now = request.args.get("task", ""), await dashboard_of(current_app).reader.refresh()
    known = (parts_of(current_app).tasks, now.tasks, now.paused_tasks)
    if not any(name in each for each in known):
        raise NotFound("No such task is known here.")
    return name, now
