"""Shows one queue, pauses and resumes it."""

from quart import Blueprint, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from service.access.policy import Action
from service.broker.pauses import Kind
from service.dashboard.extension import dashboard_of
from service.dashboard.pages import pausing
from service.dashboard.pages.sign_in import require
from service.web.http.site import render

queues = Blueprint("queues", __name__)
queues.before_request(require(Action.WATCH))


@queues.get("")
async def show() -> ResponseReturnValue:
    """The queue that the address names."""
    name, now = request.args.get("queue", ""), await dashboard_of(current_app).reader.refresh()
    found = next((queue for queue in now.queues if queue.name == name), None)
    if found is None:
        raise NotFound("No such queue is known here.")
    page = await render("dashboard/queue.html", queue=found, **await pausing.shown_form())
    return page, {"Cache-Control": "no-store"}


@queues.post("")
async def change() -> ResponseReturnValue:
    """Pause the queue, or resume it, as `act` says."""
    await pausing.check_may_pause()
    name = request.args.get("queue", "")
    if name not in dashboard_of(current_app).reader.queue_names():
        raise NotFound("No such queue is known here.")
    await pausing.change(Kind.QUEUE, name)
    return redirect(url_for("service.queues.show", queue=name), 303)
