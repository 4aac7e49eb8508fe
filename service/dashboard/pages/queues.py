"""Shows one queue, pauses and resumes it."""

from typing import Final

from quart import Blueprint, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from service.access.access import audit, caller_of
from service.access.policy import Action
from service.broker.pauses import pause, resume
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import may, require
from service.parts import parts_of
from service.redis.bounded import bounded
from service.redis.keys import broker_keys
from service.web.http.site import render
from service.web.limits.checks import holding

_MAX_WHY: Final = 200  # characters

queues = Blueprint("queues", __name__)
queues.before_request(require(Action.WATCH))
_check_may_pause: Final = require(Action.OPERATE)  # it never redirects a POST, so this raises


@queues.get("")
async def show() -> ResponseReturnValue:
    """The queue that the address names."""
    name, now = request.args.get("queue", ""), await dashboard_of(current_app).reader.refresh()
    found = next((queue for queue in now.queues if queue.name == name), None)
    if found is None:
        raise NotFound("No such queue is known here.")
    page = await render("dashboard/queue.html", queue=found, may_operate=await may(Action.OPERATE))
    return page, {"Cache-Control": "no-store"}


@queues.post("")
async def change() -> ResponseReturnValue:
    """Pause the queue, or resume it, as `act` says."""
    await _check_may_pause()
    with holding("bodies"):
        posted = await request.form
    own, parts = dashboard_of(current_app).reader, parts_of(current_app)
    name, act = request.args.get("queue", ""), posted.get("act", "")
    if name not in own.queue_names():
        raise NotFound("No such queue is known here.")
    if act not in {"pause", "resume"}:
        raise BadRequest("`act` is `pause` or `resume`.")
    caller, why = await caller_of(), posted.get("why", "").strip()[:_MAX_WHY]
    keys = broker_keys(parts.celery.get().conf)
    async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
        if act == "pause":
            by = caller.id if caller else "somebody"
            await pause(parts.broker_redis, keys, name, by=by, why=why)
        else:
            await resume(parts.broker_redis, keys, name)
    await audit(act, f"queue {name}" + (f": {why}" if why and act == "pause" else ""))
    own.expire()
    return redirect(url_for("service.queues.show", queue=name), 303)
