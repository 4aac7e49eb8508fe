"""Tells browsers what pages may do, and refuses requests that other sites make them send."""

from typing import Final

from quart import Quart, Response, request
from werkzeug.exceptions import Forbidden

# No inline code, no inline style, nothing from other hosts; `data:` is for the stylesheet's icons.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # A job's address is its only secret, so other sites get no Referer. (`no-referrer` would also
    # take the Origin from forms on plain HTTP.)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})  # none: typed or bookmarked


def init_security(app: Quart) -> None:
    """Check every request, and put the headers on every answer."""
    app.before_request(_refuse_cross_site)
    app.after_request(_add_headers)


async def _refuse_cross_site() -> None:
    """Let no other site change anything in the name of a browser's user.

    A browser says by Sec-Fetch-Site where a request comes from, on plain HTTP by Origin alone.
    Other clients send neither header, and no cookies of anybody.
    """
    if request.method in _SAFE:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in _OURS
    else:
        foreign = origin is not None and origin.partition("://")[2] != request.host
    if foreign:
        raise Forbidden("This was sent by a page of another site.")


async def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
