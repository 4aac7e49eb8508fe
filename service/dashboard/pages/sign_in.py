"""Signs operators in: whoever has the admin token gets a cookie that only this service can make."""

import hashlib
import hmac
import time
from typing import Any, Final

from itsdangerous import BadSignature, Signer
from quart import Blueprint, current_app, make_response, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, NotFound

from service.parts import parts_of
from service.web.http.negotiation import wants_page

_COOKIE: Final = "service_admin"
_TTL: Final = 12 * 3600  # seconds

# Serves the templates and static files of all the dashboard: whoever signs in needs some of them.
admin = Blueprint(
    "admin",
    "service.dashboard",
    url_prefix="/dashboard",
    template_folder="templates",
    static_folder="static",
)


async def require_admin() -> ResponseReturnValue | None:
    """Before a request: 404 if the app has no dashboard; else only operators who signed in pass."""
    if is_admin():
        return None
    address = url_for("admin.ask")
    if request.method == "GET" and wants_page():
        return redirect(address, 303)
    raise Forbidden(f"Sign in at {address}, or send the token as `Authorization: Bearer`.")


@admin.app_context_processor
def _for_every_page() -> dict[str, Any]:
    return {"has_dashboard": bool(parts_of(current_app).settings.admin_token)}


def is_admin() -> bool:
    """Whether the request has the token, or a cookie that was given for it. Raises NotFound."""
    token = _token()
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _same(given.strip(), token)
    try:
        until = int(cookie_signer(token).unsign(request.cookies.get(_COOKIE, "")))
    except (BadSignature, ValueError):
        return False
    return until > time.time()


@admin.get("/sign-in")
async def ask() -> ResponseReturnValue:
    """Ask for the token."""
    _token()  # or a 404
    return await render_template("dashboard/sign_in.html", failed=False)


@admin.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    """Give the cookie to whoever has the token."""
    token = _token()
    if not _same((await request.form).get("token", "").strip(), token):
        return await render_template("dashboard/sign_in.html", failed=True), 403
    until = str(int(time.time()) + _TTL)
    return await _redirect("dashboard.show", cookie_signer(token).sign(until).decode(), _TTL)


@admin.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    """Take the cookie back."""
    return await _redirect("pages.index", "", 0)


def cookie_signer(token: str) -> Signer:
    """Signs the cookie, which says when it expires. Its key comes from the token.

    So a new token ends all cookies. The cookie has its end in it, not its beginning, because
    itsdangerous refuses a beginning that the clock of another process has not reached yet.
    """
    return Signer(token, salt=_COOKIE, key_derivation="hmac", digest_method=hashlib.sha256)


async def _redirect(endpoint: str, cookie: str, max_age: int) -> ResponseReturnValue:
    response = await make_response(redirect(url_for(endpoint), 303))
    response.set_cookie(
        _COOKIE,
        cookie,
        max_age=max_age,
        path=url_for("dashboard.show"),
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _token() -> str:
    """The token that operators have. Raises NotFound: without one the app has no dashboard."""
    if token := parts_of(current_app).settings.admin_token:
        return token
    raise NotFound


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
