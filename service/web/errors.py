"""Tells errors to clients as problem details (RFC 9457), and to browsers as pages."""

import json
import logging
from http import HTTPStatus
from typing import Final

from quart import Quart, Response, make_response, render_template
from werkzeug.exceptions import HTTPException

from service.errors import (
    BrokerUnavailableError,
    InvalidJobIdError,
    ServiceError,
    UnknownJobError,
    UnknownTaskError,
)
from service.web.negotiation import wants_page

logger: Final = logging.getLogger(__name__)

_RETRY_AFTER: Final = "2"  # seconds

# One row for each error that has a status of its own; any other is a 500.
_STATUS: Final[dict[type[ServiceError], HTTPStatus]] = {
    BrokerUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    InvalidJobIdError: HTTPStatus.NOT_FOUND,
    UnknownJobError: HTTPStatus.NOT_FOUND,
    UnknownTaskError: HTTPStatus.NOT_FOUND,
}


def init_errors(app: Quart) -> None:
    """Have every error of the app's answered in one form."""
    app.register_error_handler(ServiceError, _on_service_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_any_error)


async def _on_service_error(error: ServiceError) -> Response:
    status = next(
        (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return await _on_any_error(error)
    response = await _problem(status, str(error))
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("Answered with 503: %s", error)
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


async def _problem(status: HTTPStatus, detail: str) -> Response:
    if wants_page():
        body = await render_template("problem.html", status=status, detail=detail)
        content_type = "text/html; charset=utf-8"
    else:
        body = json.dumps(
            {
                "type": "about:blank",
                "title": status.phrase,
                "status": status.value,
                "detail": detail,
            }
        )
        content_type = "application/problem+json"
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "Vary": "Accept"}
    response = await make_response(body, status.value, headers)
    assert isinstance(response, Response)  # noqa: S101  make_response is typed more widely
    return response
