"""Shortens what is said of errors, which may hold all the arguments of their jobs; pure."""

from typing import Any, Final

_MAX_MESSAGE: Final = 8_192  # characters
_MAX_TRACEBACK: Final = 16_384
_MAX_LINE: Final = 300


def shorten(text: str, limit: int) -> str:
    """A text without its middle, if it has more characters than the limit."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … ({len(text) - 2 * half} characters cut) … {text[-half:]}"


def shorten_error(result: dict[str, Any], traceback: Any) -> tuple[dict[str, Any], Any]:
    """An error as a record has it, and its traceback, which has the error's message once more."""
    message = result.get("exc_message") or ()
    parts = message if isinstance(message, (list, tuple)) else [message]
    text = ", ".join(map(str, parts))
    if len(text) > _MAX_MESSAGE:
        result = {**result, "exc_message": [shorten(text, _MAX_MESSAGE)]}
    if isinstance(traceback, str):
        traceback = shorten(traceback, _MAX_TRACEBACK)
    return result, traceback


def line_of(kind: str, message: str) -> str:
    """`ValueError: no such address`: an error on one line, with what UTF-8 can have."""
    line = " ".join(f"{kind}: {message}"[: 2 * _MAX_LINE].split())
    return line[:_MAX_LINE].encode(errors="replace").decode()
