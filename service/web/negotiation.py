"""Tells a browser, which gets pages, from a client, which gets JSON."""

from typing import Final

from quart import request

_HTML: Final = "text/html"
_OFFERED: Final = ("application/json", _HTML)


def wants_page() -> bool:
    """Whether the requester prefers HTML; one that takes anything (`*/*`) gets JSON."""
    return request.accept_mimetypes.best_match(_OFFERED) == _HTML
