"""Reads what kind of answer a request wants: a page, JSON or an event stream, and how soon."""

import math
from typing import Final

from quart import request
from werkzeug.exceptions import BadRequest

JSON: Final = "application/json"
HTML: Final = "text/html"
EVENTS: Final = "text/event-stream"
MAX_WAIT: Final = 60.0  # seconds


def wants_page() -> bool:
    """Whether the requester prefers HTML; one that takes anything (`*/*`) gets JSON."""
    return request.accept_mimetypes.best_match((JSON, HTML)) == HTML


def wants_events() -> bool:
    """Whether the requester prefers an event stream to a single answer."""
    return request.accept_mimetypes.best_match((JSON, HTML, EVENTS)) == EVENTS


def seconds_to_wait() -> float:
    """The seconds of `?wait=`, 0 without it. Raises BadRequest."""
    try:
        seconds = float(request.args.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:
        raise BadRequest(f"`wait` is a number of seconds from 0 to {MAX_WAIT:g}.")
    return seconds
