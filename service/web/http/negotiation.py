"""Reads what kind of answer a request wants: a page, JSON or an event stream, and how soon."""

import math
from typing import Final

from quart import request
from werkzeug.exceptions import BadRequest

JSON: Final = "application/json"
HTML: Final = "text/html"
EVENTS: Final = "text/event-stream"
MAX_WAIT: Final = 60.0  # seconds
_MAX_ACCEPT: Final = 1_000  # characters; a browser's have some hundred


def wants_page() -> bool:
    """Whether the requester prefers HTML; one that takes anything (`*/*`) gets JSON."""
    return _preferred(JSON, HTML) == HTML


def wants_events() -> bool:
    """Whether the requester prefers an event stream to a single answer."""
    return _preferred(JSON, HTML, EVENTS) == EVENTS


def _preferred(*kinds: str) -> str | None:
    """The kind that the requester prefers. A long Accept is passed over: reading one takes long,
    and a server may answer as if it were not there (RFC 9110, 12.5.1).
    """
    if len(request.headers.get("Accept", "")) > _MAX_ACCEPT:
        return kinds[0]
    return request.accept_mimetypes.best_match(kinds)


def seconds_to_wait() -> float:
    """The seconds of `?wait=`, 0 without it. Raises BadRequest."""
    try:
        seconds = float(request.args.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:
        raise BadRequest(f"`wait` is a number of seconds from 0 to {MAX_WAIT:g}.")
    return seconds


def is_visit() -> bool:
    """Whether somebody wants to see this now: a browser by a navigation, or another client.

    A browser says so on HTTPS and to this machine; other clients, and those of before, say nothing.
    """
    headers = request.headers
    if "prefetch" in f"{headers.get('Sec-Purpose')} {headers.get('Purpose')}".lower():
        return False
    mode, target = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    return mode in {None, "navigate"} and target in {None, "document"}
