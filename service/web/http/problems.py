"""Answers errors with problem details (RFC 9457) for clients, and with pages for browsers."""

import errno
import json
import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Blueprint, Quart, Response, current_app, request
from werkzeug.exceptions import HTTPException, default_exceptions

from service.errors import (
    CannotPauseError,
    CapacityError,
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
from service.parts import parts_of
from service.settings.limits import LimitExceededError
from service.signals import Incident, note_incident
from service.web.asgi.problem import ProblemView
from service.web.http.negotiation import wants_page
from service.web.http.site import render, site_of

logger: Final = logging.getLogger(__name__)

_RETRY_AFTER: Final = "2"  # seconds
_QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_TOO_MANY_FILES: Final = (
    "The server has too many open files. What you asked for may have been done all the same: look"
    " before you send it again."
)

# One row for each error that has a status of its own, but for LimitExceededError, which has a
# handler. Any other is a 500.
_STATUS: Final[dict[type[ServiceError], HTTPStatus]] = {
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    CannotPauseError: HTTPStatus.CONFLICT,
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


def init_problems(ours: Quart | Blueprint) -> None:
    """Answer every error of the app, or of the blueprint, in one form."""
    ours.register_error_handler(ServiceError, _on_service_error)
    ours.register_error_handler(LimitExceededError, _on_limit)
    ours.register_error_handler(HTTPException, _on_http_error)
    ours.register_error_handler(Exception, _on_any_error)
    if isinstance(ours, Blueprint):  # else a handler that the app has for a status would win
        for status in default_exceptions:
            ours.register_error_handler(status, _on_http_error)


async def _on_service_error(error: ServiceError) -> Response:
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        return await _on_any_error(error)
    members: dict[str, Any] = {}  # what a program needs of an error besides its status
    if isinstance(error, InvalidArgumentsError):
        members = {"argument": error.argument, "reason": error.reason, "pointer": _pointer(error)}
    elif isinstance(error, UnavailableError):
        members = {"maybe_accepted": error.maybe_accepted}
    response = await _problem(status, _detail(error), **members)
    if isinstance(error, CapacityError):
        note_incident(Incident.REFUSED, _limit_of(error))
    if status in TRY_AGAIN:
        logger.warning("Answered with %s: %s", status.value, error)
        response.headers["Retry-After"] = _RETRY_AFTER
    return response


async def _on_limit(error: LimitExceededError) -> Response:
    """The problem and the fields of the IETF's draft (httpapi-ratelimit-headers). Not logged: a
    caller could fill the log by it.
    """
    note_incident(Incident.REFUSED, error.limit)
    members = {"type": _QUOTA_EXCEEDED, "violated-policies": [error.limit]}
    response = await _problem(HTTPStatus.TOO_MANY_REQUESTS, str(error), **members)
    response.headers["Retry-After"] = str(error.retry_after)
    response.headers["RateLimit"] = f'"{error.limit}";r=0;t={error.retry_after}'
    policy = parts_of(current_app).settings.limits.policy(error.limit)
    response.headers["RateLimit-Policy"] = policy
    return response


async def _on_http_error(error: HTTPException) -> Response:
    response = await _problem(HTTPStatus(error.code or 500), error.description or "")
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value  # a redirect's Location, a 405's Allow
    return response


async def _on_any_error(error: Exception) -> Response:
    logger.error("A request could not be answered", exc_info=error)
    if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
        response = await _problem(HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY_FILES)
        response.headers["Retry-After"] = _RETRY_AFTER
        return response
    return await _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The server has a fault. It was written to its log."
    )


def _limit_of(error: CapacityError) -> str:
    """What is full, in a word."""
    return error.unit.replace(" ", "-") if isinstance(error, QueueFullError) else "process-waiters"


def _pointer(error: InvalidArgumentsError) -> str:
    """The place of the mistake in the object of arguments, as a JSON pointer (RFC 6901)."""
    steps = [str(step) for step in (error.argument, *error.path) if error.argument]
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)


def _detail(error: ServiceError) -> str:
    """The error in words, and what the client can do about it over HTTP."""
    if not isinstance(error, UnavailableError):
        return str(error)
    away = f"{error.server} is not available."  # its reason may have an address: for the log
    if not error.maybe_accepted:
        return away
    if request.endpoint == "service.tasks.start":
        return (
            f"{away} The job may have been accepted: sent again with the same Idempotency-Key, it"
            " makes no second one."
        )
    return f"{away} It may have been done all the same: look before you send it again."


async def _problem(status: HTTPStatus, detail: str, **members: Any) -> Response:
    if site_of(current_app).has_pages and wants_page():
        body = await render("problem.html", status=status, detail=detail)
        content_type = "text/html; charset=utf-8"
    else:
        body = json.dumps(msgspec.to_builtins(ProblemView.of(status, detail)) | members)
        content_type = "application/problem+json"
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(body, status.value, headers)
