"""Gives handlers that nobody has set up our lines: those of Quart, Hypercorn and Python itself.

A handler that the user has set up, by `basicConfig`, `dictConfig`, structlog or the server's own
options, stays as it is, and so do the loggers that have one.
"""

import logging
import math
import time
from typing import Any, Final

from quart.logging import default_handler

from service.logs.json_lines import IdsRecord, JsonFormatter
from service.logs.lines import LineFormatter

# The formats by which the handlers of the two are known that nobody has set up otherwise.
HYPERCORNS: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
QUARTS: Final = "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"
_DATE: Final = "[%Y-%m-%d %H:%M:%S %z]"  # Hypercorn's
_REFUSED: Final = "socket.accept() out of system resource"  # asyncio's
_SELDOM: Final = 10.0  # seconds
_SERVERS: Final = ("hypercorn.error", "hypercorn.access")


class _ForServer(logging.Filter):
    """Lets all records pass, and has the handlers of their logger write our lines.

    Hypercorn makes its handlers when it first logs, which is after an app has started.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def filter(self, record: logging.LogRecord) -> bool:
        """True."""
        for handler in logging.getLogger(record.name).handlers:
            _give_lines(handler, HYPERCORNS, as_json=self._as_json)
        return True


class _SeldomRefused(logging.Filter):
    """Has asyncio say on one line, every ten seconds, that it cannot accept connections.

    Where a process may open no more files, asyncio logs a thousand tracebacks each second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it has not been said lately."""
        error = record.exc_info and record.exc_info[1]
        if not isinstance(error, OSError) or not str(record.msg).startswith(_REFUSED):
            return True
        if time.monotonic() < self._said_at + _SELDOM:
            return False
        self._said_at = time.monotonic()
        record.msg = "No connection can be accepted: %s. The limit is that of `ulimit -n`."
        record.args, record.exc_info = (error,), None
        return True


def init_handlers(*, as_json: bool) -> None:
    """Have this process log as it should, where nothing else has set up its log."""
    if as_json and logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(IdsRecord)
    # Python's own for records that no handler takes. It has no format, and writes warnings alone.
    if logging.lastResort is not None:
        _give_lines(logging.lastResort, None, as_json=as_json)
    _give_lines(default_handler, QUARTS, as_json=as_json)
    _filter("asyncio", _SeldomRefused())
    for name in _SERVERS:
        _filter(name, _ForServer(as_json=as_json))


def _filter(name: str, ours: logging.Filter) -> None:
    """Put the filter in the place of the one of its kind that the logger may have."""
    logger = logging.getLogger(name)
    for each in [each for each in logger.filters if type(each) is type(ours)]:
        logger.removeFilter(each)
    logger.addFilter(ours)


def _give_lines(handler: logging.Handler, format: str | None, *, as_json: bool) -> None:  # noqa: A002
    """Give the handler our formatter, if it has the one of this format, or one of ours."""
    formatter: Any = handler.formatter
    ours = JsonFormatter if as_json else LineFormatter
    if type(formatter) is ours:
        return
    if type(formatter) in {JsonFormatter, LineFormatter}:
        known = True
    else:
        known = getattr(formatter, "_fmt", None) == format and (
            formatter is None or type(formatter) is logging.Formatter
        )
    if known:
        datefmt = _DATE if format != QUARTS else None
        handler.setFormatter(ours(format or HYPERCORNS, datefmt))
