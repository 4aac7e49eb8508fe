"""Shows what operators did."""

from typing import Final

from quart import Blueprint, current_app, request
from quart.typing import ResponseReturnValue

from service.access.access import access_of
from service.access.policy import Action
from service.dashboard.pages.sign_in import require
from service.web.http.site import render

_PAGE: Final = 50  # lines
_LAST_PAGE: Final = 200  # of 10,000 lines

audit_trail = Blueprint("audit", __name__)
audit_trail.before_request(require(Action.ADMINISTER))


@audit_trail.get("")
async def show() -> ResponseReturnValue:
    """Who did what, when, and from where: newest first."""
    number = min(max(1, request.args.get("page", 1, type=int)), _LAST_PAGE)
    lines, total = await access_of(current_app).audit.page(number=number, size=_PAGE)
    last = max(1, min(_LAST_PAGE, -(-total // _PAGE)))
    page = await render("dashboard/audit.html", lines=lines, number=number, last=last)
    return page, {"Cache-Control": "no-store"}
