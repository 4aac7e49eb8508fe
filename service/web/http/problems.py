"""Answers errors with problem details (RFC 9457) for clients, and with pages for browsers."""

import json
import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Quart, Response, render_template, request
from werkzeug.exceptions import HTTPException

from service.errors import (
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidJobIdError,
    JobFinishedError,
    QueueFullError,
    ServiceError,
    TooManyWaitersError,
    UnavailableError,
    UnknownJobError,
    UnknownTaskError,
)
from service.web.http.negotiation import wants_page

logger: Final = logging.getLogger(__name__)

_RETRY_AFTER: Final = "2"  # seconds
_AWAY: Final = "Redis is not available."  # its address, which a reason may have, is for the log

# One row for each error that has a status of its own; any other is a 500.
_STATUS: Final[dict[type[ServiceError], HTTPStatus]] = {
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    IdempotencyConflictError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidArgumentsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidJobIdError: HTTPStatus.NOT_FOUND,
    JobFinishedError: HTTPStatus.CONFLICT,
    QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyWaitersError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnknownJobError: HTTPStatus.NOT_FOUND,
    UnknownTaskError: HTTPStatus.NOT_FOUND,
}
TRY_AGAIN: Final = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}


class ProblemView(msgspec.Struct, frozen=True):
    """Problem details (RFC 9457); some have members besides these."""

    type: str
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, status: HTTPStatus, detail: str) -> "ProblemView":
        """The problem of a status that needs no type of its own."""
        return cls("about:blank", status.phrase, status.value, detail)


def init_problems(app: Quart) -> None:
    """Answer every error of the app in one form."""
    app.register_error_handler(ServiceError, _on_service_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_any_error)


async def _on_service_error(error: ServiceError) -> Response:
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        return await _on_any_error(error)
    members: dict[str, Any] = {}  # what a program needs of an error besides its status
    if isinstance(error, InvalidArgumentsError):
        members = {"argument": error.argument, "reason": error.reason}
    elif isinstance(error, UnavailableError):
        members = {"maybe_accepted": error.maybe_accepted}
    response = await _problem(status, _detail(error), **members)
    if status in TRY_AGAIN:
        logger.warning("Answered with %s: %s", status.value, error)
        response.headers["Retry-After"] = _RETRY_AFTER
    return response


async def _on_http_error(error: HTTPException) -> Response:
    response = await _problem(HTTPStatus(error.code or 500), error.description or "")
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value  # a redirect's Location, a 405's Allow
    return response


async def _on_any_error(error: Exception) -> Response:
    logger.error("A request could not be answered", exc_info=error)
    return await _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The server has a fault. It was written to its log."
    )


def _detail(error: ServiceError) -> str:
    """The error in words, and what the client can do about it over HTTP."""
    if not isinstance(error, UnavailableError):
        return str(error)
    if not error.maybe_accepted:
        return _AWAY
    if request.endpoint == "tasks.start":
        return (
            f"{_AWAY} The job may have been accepted: sent again with the same Idempotency-Key, it"
            " makes no second one."
        )
    return f"{_AWAY} It may have been done all the same: look before you send it again."


async def _problem(status: HTTPStatus, detail: str, **members: Any) -> Response:
    if wants_page():
        body = await render_template("problem.html", status=status, detail=detail)
        content_type = "text/html; charset=utf-8"
    else:
        body = json.dumps(msgspec.to_builtins(ProblemView.of(status, detail)) | members)
        content_type = "application/problem+json"
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(body, status.value, headers)
