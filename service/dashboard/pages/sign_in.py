"""Lets who has the admin token sign in, by a cookie that only this service can have made."""

import hashlib
import hmac
import time
from typing import Any, Final

from quart import Blueprint, Response, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, NotFound

from service.parts import parts_of
from service.web.http.negotiation import wants_page

_COOKIE: Final = "service_admin"
_LONGEST_TIME: Final = 15  # digits
_LASTS: Final = 12 * 3600  # seconds
_BEARER: Final = "bearer"

admin = Blueprint("admin", __name__, url_prefix="/dashboard")


async def require_admin() -> ResponseReturnValue | None:
    """Before a request: 404 where there is no dashboard, else only for who has signed in."""
    if not _token():
        raise NotFound
    if is_admin():
        return None
    if request.method == "GET" and wants_page():
        return redirect(url_for("admin.ask"), 303)
    where = url_for("admin.ask")
    raise Forbidden(f"Sign in at {where}, or send the token as `Authorization: Bearer`.")


@admin.app_context_processor
def _for_every_page() -> dict[str, Any]:
    return {"has_dashboard": bool(_token())}


def is_admin() -> bool:
    """Whether the request comes from somebody who has the token."""
    if not (token := _token()):
        return False
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == _BEARER:
        return _same(given.strip(), token)
    return _holds(request.cookies.get(_COOKIE, ""), token)


@admin.get("/sign-in")
async def ask() -> ResponseReturnValue:
    """Ask for the token."""
    if not _token():
        raise NotFound
    return await _form(failed=False)


@admin.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    """Give the cookie to who has the token."""
    if not (token := _token()):
        raise NotFound
    form = await request.form
    if not _same(form.get("token", "").strip(), token):
        return await _form(failed=True), 403
    response = _to("dashboard.show")
    _set_cookie(response, _sign(int(time.time()) + _LASTS, token), _LASTS)
    return response


@admin.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    """Take the cookie back."""
    response = _to("pages.index")
    _set_cookie(response, "", 0)
    return response


async def _form(*, failed: bool) -> str:
    return await render_template("sign_in.html", failed=failed)


def _to(endpoint: str) -> Response:
    response = redirect(url_for(endpoint), 303)
    assert isinstance(response, Response)  # noqa: S101  redirect is typed more widely
    return response


def _set_cookie(response: Response, value: str, max_age: int) -> None:
    response.set_cookie(
        _COOKIE,
        value,
        max_age=max_age,
        path=url_for("dashboard.show"),
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    response.headers["Cache-Control"] = "no-store"


def _token() -> str:
    return parts_of(current_app).settings.admin_token


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _sign(until: int, token: str) -> str:
    """A cookie's value: until when it holds, and a signature that needs the token."""
    key = hashlib.sha256(f"{_COOKIE}:{token}".encode()).digest()
    return f"{until}.{hmac.new(key, str(until).encode(), 'sha256').hexdigest()}"


def _holds(cookie: str, token: str) -> bool:
    until = cookie.partition(".")[0]
    if len(until) > _LONGEST_TIME or not (until.isascii() and until.isdecimal()):
        return False
    if not _same(cookie, _sign(int(until), token)):
        return False
    return int(until) > time.time()
