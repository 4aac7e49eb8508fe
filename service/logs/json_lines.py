"""Makes one JSON object, on one line, of each log record.

    {"time": "2026-01-02T03:04:05.678901Z", "level": "INFO", "logger": "shop", "message": "sold",
     "task": "shop.buy", "job_id": "…", "attempt": 1, "queue": "celery", "worker": "celery@host",
     "trace_id": "…", "span_id": "…", "request_id": "…", "exception": "Traceback …"}

What is not known is left out. What a logger is given as `extra` is there by its own names; none
replaces one of the above.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from service.logs.ids import REQUEST_ID, ids_here
from service.logs.lines import HARMFUL, MAX_TEXT
from service.results.short import shorten

_PLAIN: Final = frozenset(
    (*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message")
)
# Celery has `data` besides, with all arguments once more; the ids of a job have names of ours. A
# worker's record has a `request_id` for formats that name it, which is empty where there is none.
_LEFT_OUT: Final = _PLAIN | {"data", "task_id", "task_name", "in_job", REQUEST_ID}
_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)
_DELETE: Final = b"\x7f"  # of what is harmful the one character of ASCII that JSON does not escape


class IdsRecord(logging.LogRecord):
    """A record that keeps the ids of where it was made: its handler may be in another thread."""

    __slots__ = ("ids",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ids = ids_here({})


class JsonFormatter(logging.Formatter):
    """Writes records as JSON; it may be named in a configuration of the user's own."""

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line."""
        message = record.getMessage()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": message if len(message) <= MAX_TEXT else shorten(message, MAX_TEXT),
        }
        ids = getattr(record, "ids", None)
        line |= ids_here({}) if ids is None else ids
        if record.exc_info or record.exc_text:
            text = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]  # it is one of the two
            line["exception"] = shorten(text, MAX_TEXT)
        if record.stack_info:
            line["stack"] = shorten(record.stack_info, MAX_TEXT)
        fields = record.__dict__
        if given := fields.get(REQUEST_ID):
            line.setdefault(REQUEST_ID, given)
        if not (more := fields.keys() - _LEFT_OUT) <= line.keys():
            for name in [name for name in fields if name in more]:  # as they were given
                line.setdefault(name, fields[name])
        encoded = _object_of(line)
        if encoded.isascii() and _DELETE not in encoded:  # as nearly every line is
            return encoded.decode()
        return HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode())


def _object_of(line: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(line)
    except Exception:  # noqa: BLE001  halves of characters, a cycle, or what a `__repr__` raises
        return _ENCODER.encode({name: _encodable(value) for name, value in line.items()})


def _encodable(value: Any) -> Any:
    """A value as it can surely be encoded."""
    if isinstance(value, datetime):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001  it is the user's own
        text = f"<{type(value).__name__}>"
    return text.encode(errors="backslashreplace").decode()
