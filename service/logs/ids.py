"""The id of the request that the code works for, and those of its trace, by whoever knows them."""

import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final
from uuid import uuid4

HEADER: Final = "X-Request-ID"
REQUEST_ID: Final = "request_id"  # header of a message, and attribute of Celery's request
_RAW_HEADER: Final = HEADER.lower().encode()
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")

# Set for the time of a request. A host that knows its requests by ids of its own may set it.
request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)


def is_harmless(text: str) -> bool:
    """Whether the text may be the id of a request: letters, digits and `._-`, 128 at most."""
    return _HARMLESS.fullmatch(text) is not None


def new_request_id() -> str:
    """An id for a request that has none."""
    return uuid4().hex


def given_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The id that the headers of an ASGI request give it, if it can do no harm."""
    for name, value in headers:
        if name == _RAW_HEADER:
            text = value.decode("latin-1")
            return text if is_harmless(text) else None
    return None


def request_id_here() -> str | None:
    """The id of the request that the caller works for, if there is one.

    Where the host has asgi-correlation-id, its id counts unless there is one of ours.
    """
    found = request_id.get()
    if found is None and (theirs := sys.modules.get("asgi_correlation_id")) is not None:
        found = theirs.correlation_id.get(None)
        if not isinstance(found, str) or not is_harmless(found):
            return None
    return found


def ids_here(found: dict[str, Any]) -> dict[str, Any]:
    """What a record says of where it was made, by the names that JSON has, added to `found`.

    The ids of OpenTelemetry's current span are in hex; where nothing has imported its API, there
    are none.
    """
    if (api := sys.modules.get("opentelemetry.trace")) is not None:
        span = api.get_current_span().get_span_context()
        if span.is_valid:
            found["trace_id"], found["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    if (request := request_id_here()) is not None:
        found[REQUEST_ID] = request
    return found
