"""Tells browsers what pages may do, and refuses requests that other sites make them send."""

from functools import partial
from typing import Any, Final

from quart import Blueprint, Quart, Response, current_app, request
from werkzeug.exceptions import Forbidden, RequestEntityTooLarge

from service.logs.ids import HEADER, is_harmless, new_request_id, request_id, request_id_here
from service.parts import parts_of
from service.web.http.cors import add_cors, may_cross_site
from service.web.http.site import site_of

# No inline code, no inline style, nothing from other hosts; `data:` is for the stylesheet's icons.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    # A job's address is its only secret, so other sites get no Referer. (`no-referrer` would also
    # take the Origin from forms on plain HTTP.)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HEADERS_AND_POLICY: Final = {**_HEADERS, "Content-Security-Policy": _POLICY}
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS: Final = frozenset({"same-origin", "none"})  # none: typed or bookmarked


def init_security(ours: Quart | Blueprint, *, own_host: bool) -> None:
    """Check every request, and put the headers on every answer.

    `own_host` says that nothing else is served under the host's name, which HSTS speaks for.
    """
    ours.before_request(_name_request)
    ours.before_request(_refuse_cross_site)
    ours.before_request(_bound_body)
    ours.after_request(add_cors)
    ours.after_request(partial(_add_headers, own_host=own_host))


async def _name_request() -> None:
    """Give a request to us an id, where neither its client nor the host has given it one."""
    if request_id_here() is None:
        request_id.set(new_request_id())  # until the middleware ends


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
    if foreign and not may_cross_site():
        raise Forbidden("This was sent by a page of another site.")


async def _bound_body() -> None:
    """Wait no longer than SERVICE_BODY_TIMEOUT for a body, and read none that says itself that it
    is longer than SERVICE_MAX_BODY.

    Quart bounds the bodies of a whole app by MAX_CONTENT_LENGTH, but knows no bound of a blueprint.
    A body that does not say how long it is, is bounded by `read_body`.
    """
    if request.method in _SAFE:
        return
    settings = parts_of(current_app).settings
    asked: Any = request  # whose limit is one of Quart's documented attributes
    asked.body_timeout = settings.body_timeout
    if (request.content_length or 0) > settings.max_body:
        raise RequestEntityTooLarge


async def _add_headers(response: Response, *, own_host: bool) -> Response:
    wanted = _HEADERS
    if not site_of(current_app).base_template:  # the host's may need what the policy forbids
        wanted = _HEADERS_AND_POLICY
    if own_host and request.is_secure and (age := parts_of(current_app).settings.hsts):
        wanted = {**wanted, "Strict-Transport-Security": f"max-age={age:.0f}"}
    headers = response.headers
    given = {name.lower() for name, _ in headers}  # to ask for each would look through all of them
    for name, value in wanted.items():
        if name.lower() not in given:
            headers.add(name, value)
    # A host's own id stands in the answer by the host's own doing.
    if (named := request_id.get()) is not None and is_harmless(named):
        headers[HEADER] = named
    return response
