"""Lets pages of the origins in SERVICE_CORS_ORIGINS use the API, but no page and no dashboard."""

from typing import Final

from quart import Response, current_app, request

from service.parts import parts_of

_API: Final = frozenset({"service.tasks", "service.results", "service.openapi"})  # blueprints
_MAX_AGE: Final = "600"  # seconds for which a browser need not ask again
_TAKEN: Final = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID"
_SHOWN: Final = "ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"


def may_cross_site() -> bool:
    """Whether a page of another site may send this request: with cookies only where that is set."""
    settings = parts_of(current_app).settings
    return _is_allowed() and (settings.cors_credentials == "include" or not request.cookies)


async def add_cors(response: Response) -> Response:
    """Tell a browser whether the page that asks may have the answer."""
    settings = parts_of(current_app).settings
    if not settings.cors_origins or request.blueprint not in _API:
        return response
    response.vary.add("Origin")
    if _is_allowed():
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = _SHOWN
        if settings.cors_credentials == "include":
            response.headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
            response.headers["Access-Control-Allow-Headers"] = _TAKEN
            response.headers["Access-Control-Max-Age"] = _MAX_AGE
    return response


def _is_allowed() -> bool:
    origins = parts_of(current_app).settings.cors_origins
    return request.blueprint in _API and request.headers.get("Origin") in origins
