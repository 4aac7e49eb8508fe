"""Pauses or resumes a queue or a task, as the form on its page asks."""

from typing import Any, Final

from quart import current_app
from werkzeug.exceptions import BadRequest

from service.access.access import audit, caller_of
from service.access.policy import Action
from service.broker.pauses import CANNOT_PAUSE, Kind, can_pause, pause, resume
from service.dashboard.extension import dashboard_of
from service.dashboard.pages.sign_in import may, require
from service.parts import parts_of
from service.redis.bounded import bounded
from service.web.limits.checks import read_form

_MAX_WHY: Final = 200  # characters
check_may_pause: Final = require(Action.OPERATE)  # it never redirects a POST, so this raises


async def shown_form() -> dict[str, Any]:
    """What a page needs to know for the form, or for the sentence in its place."""
    can = can_pause(parts_of(current_app).celery.get().conf)
    return {
        "may_operate": await may(Action.OPERATE),
        "cannot_pause": "" if can else CANNOT_PAUSE,
    }


async def change(kind: Kind, name: str) -> None:
    """Do what the posted form says: `act` is to pause or to resume, `why` the reason.

    Raises BadRequest, CannotPauseError and ResultsUnavailableError.
    """
    posted, parts = await read_form(), parts_of(current_app)
    act, why = posted.get("act", ""), posted.get("why", "").strip()[:_MAX_WHY]
    caller, celery = await caller_of(), parts.celery.get().conf
    async with bounded(parts.settings.redis_timeout, maybe_accepted=True):
        if act == "pause":
            by = caller.id if caller else "somebody"
            await pause(parts.broker_redis, celery, kind, name, by=by, why=why)
        elif act == "resume":
            await resume(parts.broker_redis, celery, kind, name)
        else:
            raise BadRequest("`act` is `pause` or `resume`.")
    await audit(act, f"{kind} {name}" + (f": {why}" if why and act == "pause" else ""))
    dashboard_of(current_app).reader.expire()
