"""What strangers can get into a worker's log neither forges a line nor colours a terminal."""

import logging
import sys

import pytest
from celery import signals
from celery.app.defaults import DEFAULTS
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter

import service.worker.log_records  # noqa: F401  it connects to Celery's signals

FORGED = "[2026-01-01 00:00:00,000: CRITICAL/MainProcess] all is lost"
EVIL = f"x\n{FORGED}\r\x1b[31mred\x1b[0m\x9b2J\x85\u2028{FORGED}\u202e"
FORMATS = {"": ColorFormatter, "_task": TaskFormatter}


def celerys(which: str, format: str | None = None) -> logging.Handler:  # noqa: A002  Celery's name
    """A handler as Celery sets it up, and as its signal leaves it."""
    logger = logging.Logger("x")
    handler = logging.StreamHandler()
    used = format or str(DEFAULTS[f"worker{which}_log_format"])
    handler.setFormatter(FORMATS[which](used, use_color=False))
    logger.addHandler(handler)
    signal = getattr(signals, f"after_setup{which}_logger")
    signal.send(sender=None, logger=logger, loglevel=20, logfile=None, format=used, colorize=False)
    return handler


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.Logger("x").makeRecord("x", logging.ERROR, "f", 1, message, args, info)


def raised() -> RuntimeError:
    """An error with a traceback."""
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(EVIL)
    return caught.value


@pytest.fixture(params=FORMATS)
def handler(request: pytest.FixtureRequest) -> logging.Handler:
    return celerys(str(request.param))


def test_a_message_is_one_line(handler: logging.Handler) -> None:
    """Of an argument, an error's text, an id or a header as of the logger's own words."""
    for made in (record(EVIL), record("got %s", EVIL), record("Task %(id)s", {"id": EVIL})):
        line = handler.format(made)
        assert line.isprintable()
        assert line.splitlines() == [line]
        assert "x\\n[2026" in line


def test_lines_of_a_traceback_are_indented(handler: logging.Handler) -> None:
    """No line but the first can be taken for a record, though the error's text has lines."""
    text = handler.format(record("failed", error=raised()))
    first, *others = text.split("\n")
    assert first.endswith("failed")
    assert any("Traceback (most recent call last)" in line for line in others)
    assert any("RuntimeError: x" in line for line in others)
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_another_handler_sees_the_error_as_it_is(handler: logging.Handler) -> None:
    """A record keeps the text of its traceback for all its handlers."""
    made = record("failed", error=RuntimeError("a\nb"))
    handler.format(made)
    assert logging.Formatter("%(message)s").format(made) == "failed\nRuntimeError: a\nb"


def test_a_format_of_the_users_is_kept() -> None:
    """With its own line breaks."""
    handler = celerys("", "%(levelname)s\n%(message)s")
    assert handler.format(record("a\nb")) == "ERROR\na\\nb"


def test_a_formatter_of_the_users_is_kept() -> None:
    """One that is set by the user's own receiver of Celery's signal."""
    logger, handler = logging.Logger("x"), logging.StreamHandler()
    handler.setFormatter(mine := logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.send(
            sender=None, logger=logger, loglevel=20, logfile=None, format="", colorize=False
        )
    assert handler.formatter is mine


def test_a_long_line_is_cut(handler: logging.Handler) -> None:
    """400 failed jobs of 250 KB made 164 MB of log."""
    text = "a" * 250_000
    assert len(handler.format(record(text, error=RuntimeError(text)))) < 40_000


def test_colours_are_celerys_own() -> None:
    """Around a line, where the log is a terminal."""
    logger, handler = logging.Logger("x"), logging.StreamHandler(sys.stderr)
    used = str(DEFAULTS["worker_log_format"])
    handler.setFormatter(ColorFormatter(used, use_color=True))
    logger.addHandler(handler)
    signals.after_setup_logger.send(
        sender=None, logger=logger, loglevel=20, logfile=None, format=used, colorize=True
    )
    line = handler.format(record("a\x1b[32mb"))
    assert line.startswith("\x1b[1;31m[")
    assert "a\\x1b[32mb" in line
