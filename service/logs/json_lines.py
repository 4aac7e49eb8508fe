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
# Celery has `data` besides, with all arguments once more; the ids of a job have names of ours.
_CELERYS: Final = frozenset(("data", "task_id", "task_name", "in_job"))
_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)


class IdsRecord(logging.LogRecord):
    """A record that keeps the ids of where it was made: its handler may be in another thread."""

    __slots__ = ("ids",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ids = ids_here()


class JsonFormatter(logging.Formatter):
    """Writes records as JSON; it may be named in a configuration of the user's own."""

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": shorten(record.getMessage(), MAX_TEXT),
        }
        ids = getattr(record, "ids", None)
        line |= ids_here() if ids is None else ids
        if record.exc_info or record.exc_text:
            text = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]  # it is one of the two
            line["exception"] = shorten(text, MAX_TEXT)
        if record.stack_info:
            line["stack"] = shorten(record.stack_info, MAX_TEXT)
        for name, value in vars(record).items():
            # A worker's record has an empty id of a request for formats that name it.
            if name not in _PLAIN and name not in _CELERYS and (value or name != REQUEST_ID):
                line.setdefault(name, value)
        return HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", _object_of(line))


def _object_of(line: dict[str, Any]) -> str:
    try:
        return _ENCODER.encode(line).decode()
    except Exception:  # noqa: BLE001  halves of characters, a cycle, or what a `__repr__` raises
        return _ENCODER.encode({name: _encodable(value) for name, value in line.items()}).decode()


def _encodable(value: Any) -> Any:
    """A value as it can surely be encoded."""
    if isinstance(value, datetime):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001  it is the user's own
        text = f"<{type(value).__name__}>"
    return text.encode(errors="backslashreplace").decode()
