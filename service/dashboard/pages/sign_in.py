"""Lets only operators see their pages, and signs in whoever has the admin token."""

from collections.abc import Awaitable, Callable

from quart import Blueprint, current_app, make_response, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, NotFound

from service.access.access import access_of, audit, caller_of
from service.access.operators import ADMINISTRATOR, COOKIE, TTL, Operators
from service.access.policy import Action
from service.web.http.negotiation import wants_page
from service.web.http.site import render, site_of
from service.web.limits.checks import note_guess, read_form, refuse_guesses

admin = Blueprint("admin", __name__)


def require(action: Action) -> Callable[[], Awaitable[ResponseReturnValue | None]]:
    """Before a request: 404 if the app has no dashboard; else only callers who may do this pass."""

    async def guard() -> ResponseReturnValue | None:
        if not site_of(current_app).has_dashboard:
            raise NotFound
        if await may(action):
            return None
        if await may(Action.WATCH):
            raise Forbidden("Your role does not allow this. Ask somebody with a higher one.")
        if not access_of(current_app).settings.admin_token:
            raise Forbidden("This is for callers with the role viewer, operator or admin.")
        address = url_for("service.admin.ask")
        if request.method == "GET" and wants_page():
            return redirect(address, 303)
        raise Forbidden(f"Sign in at {address}, or send the token as `Authorization: Bearer`.")

    return guard


async def may(action: Action) -> bool:
    """Whether the request's caller may do this."""
    return access_of(current_app).may_do(await caller_of(), action)


async def sees_in_full() -> bool:
    """Whether the request's caller is shown arguments and the texts of errors on these pages.

    They belong to the jobs' owners. So of the roles only that of administrators shows them.
    """
    return await may(Action.ADMINISTER)


@admin.get("/sign-in")
async def ask() -> ResponseReturnValue:
    """Ask for the token."""
    _operators()  # or a 404
    return await render("dashboard/sign_in.html", failed=False)


@admin.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    """Give the cookie to whoever has the token."""
    operators = _operators()
    posted = await read_form()
    refuse_guesses()
    if not operators.is_token(posted.get("token", "").strip()):
        note_guess()
        await audit("refused sign-in")
        return await render("dashboard/sign_in.html", failed=True), 403
    await audit("sign-in", who=ADMINISTRATOR)
    return await _redirect("service.dashboard.show", operators.new_cookie(), TTL)


@admin.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    """Take the cookie back, and end every copy of it."""
    await _operators().sign_out(request)
    has_front_page = site_of(current_app).front_page is not None
    return await _redirect("service.pages.index" if has_front_page else "service.admin.ask", "", 0)


async def _redirect(endpoint: str, cookie: str, max_age: int) -> ResponseReturnValue:
    response = await make_response(redirect(url_for(endpoint), 303))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=max_age,
        path=f"{request.root_path}{_shared_prefix()}/",
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _shared_prefix() -> str:
    """What the addresses of the dashboard and of jobs begin with: administrators see both."""
    site = site_of(current_app)
    prefixes = [prefix for prefix in (site.dashboard, site.results) if prefix is not None]
    return site.root if all(prefix.startswith(site.root) for prefix in prefixes) else ""


def _operators() -> Operators:
    """The app's Operators. Raises NotFound if the app has no admin token to sign in with."""
    access = access_of(current_app)
    if not access.settings.admin_token:
        raise NotFound
    return access.operators
