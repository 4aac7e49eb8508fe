"""Gives handlers that nobody has set up our lines: those of Quart, Hypercorn and Python itself.

A handler that the user has set up, by `basicConfig`, `dictConfig`, structlog or the server's own
options, stays as it is, and so do the loggers that have one. In an app of somebody else's, the
handlers of Quart and Python write our lines for our own loggers alone.
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
_OURS: Final = __name__.partition(".")[0]  # begins the names of our loggers


class _OwnFormatter(LineFormatter):
    """Writes our lines for our own loggers, and what it wrote before for all others."""

    others = logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """By the name of the logger."""
        if record.name.partition(".")[0] == _OURS:
            return super().format(record)
        return self.others.format(record)


_KINDS: Final = (JsonFormatter, LineFormatter, _OwnFormatter)


class _ForServer(logging.Filter):
    """Lets all records pass, and has the handlers of their logger write our lines.

    Hypercorn makes its handlers when it first logs, which is after an app has started.
    """

    def __init__(self, kind: type[logging.Formatter]) -> None:
        super().__init__()
        self._kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        """True."""
        for handler in logging.getLogger(record.name).handlers:
            _give_lines(handler, HYPERCORNS, self._kind)
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


def init_handlers(*, as_json: bool, in_host: bool = False) -> None:
    """Have this process log as it should, where nothing else has set up its log.

    With `in_host` it is the process of somebody else's app: unless JSON was asked for, other
    loggers than ours and the server's keep their format.
    """
    if as_json and logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(IdsRecord)
    lines = JsonFormatter if as_json else LineFormatter
    shared = _OwnFormatter if in_host and not as_json else lines
    # Python's own for records that no handler takes. It has no format, and writes warnings alone.
    if logging.lastResort is not None:
        _give_lines(logging.lastResort, None, shared)
    _give_lines(default_handler, QUARTS, shared)
    _filter("asyncio", _SeldomRefused())
    for name in _SERVERS:
        _filter(name, _ForServer(lines))


def _filter(name: str, ours: logging.Filter) -> None:
    """Put the filter in the place of the one of its kind that the logger may have."""
    logger = logging.getLogger(name)
    for each in [each for each in logger.filters if type(each) is type(ours)]:
        logger.removeFilter(each)
    logger.addFilter(ours)


def _give_lines(
    handler: logging.Handler,
    format: str | None,  # noqa: A002
    kind: type[logging.Formatter],
) -> None:
    """Give the handler our formatter, if it has the one of this format, or one of ours."""
    formatter: Any = handler.formatter
    if type(formatter) is kind:
        return
    known = type(formatter) in _KINDS or (
        getattr(formatter, "_fmt", None) == format
        and (formatter is None or type(formatter) is logging.Formatter)
    )
    if known:
        datefmt = _DATE if format != QUARTS else None
        ours = kind(format or HYPERCORNS, datefmt)
        if isinstance(ours, _OwnFormatter):
            ours.others = logging.Formatter(format)
        handler.setFormatter(ours)
