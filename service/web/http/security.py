"""Says to browsers what pages may do, and refuses what other sites have them send."""

from typing import Final
from urllib.parse import urlsplit

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
    # Who has a job's address can see it: other sites are told none. (With `no-referrer` forms on
    # plain HTTP would come without their Origin, too.)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})  # none: typed or bookmarked


def init_security(app: Quart) -> None:
    """Guard every request, and put the headers on every answer."""
    app.before_request(_refuse_cross_site)
    app.after_request(_add_headers)


async def _refuse_cross_site() -> None:
    """Let no other site change anything in the name of a browser's user.

    Browsers say where a request comes from by Sec-Fetch-Site, or on plain HTTP by Origin alone.
    Clients that are no browsers send neither, and nobody's cookies.
    """
    if request.method in _SAFE:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in _OURS
    else:
        foreign = origin is not None and _host(origin) != request.host
    if foreign:
        raise Forbidden("This was sent by a page of another site.")


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


async def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
