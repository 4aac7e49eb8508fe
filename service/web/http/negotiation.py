"""Tells a browser, which gets pages, from a client, which gets JSON, and one that listens."""

from typing import Final

from quart import request

JSON: Final = "application/json"
HTML: Final = "text/html"
EVENTS: Final = "text/event-stream"


def wants_page() -> bool:
    """Whether the requester prefers HTML; one that takes anything (`*/*`) gets JSON."""
    return request.accept_mimetypes.best_match((JSON, HTML)) == HTML


def wants_events() -> bool:
    """Whether the requester prefers an event stream to a single answer."""
    return request.accept_mimetypes.best_match((JSON, HTML, EVENTS)) == EVENTS
