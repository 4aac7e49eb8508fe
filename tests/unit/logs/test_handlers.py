"""Which handlers of a web process write our lines, and which stay as they are."""

import errno
import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
from hypercorn.config import Config
from hypercorn.logging import Logger
from quart import logging as quarts

from service.logs.handlers import HYPERCORNS, QUARTS, init_handlers
from service.logs.json_lines import JsonFormatter
from service.logs.lines import LineFormatter
from tests.unit.logs.test_worker_lines import EVIL

SERVERS = ("hypercorn.error", "hypercorn.access")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What is set is the process's: each test begins as a new one, whatever ran before it."""
    handlers = [each for each in (logging.lastResort, quarts.default_handler) if each is not None]
    before, factory = [each.formatter for each in handlers], logging.getLogRecordFactory()
    for each in handlers:
        each.setFormatter(logging.Formatter(QUARTS) if each is quarts.default_handler else None)
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(factory)
    for each, formatter in zip(handlers, before, strict=True):
        each.setFormatter(formatter)
    for name in SERVERS:
        logging.getLogger(name).handlers = []
    for name in (*SERVERS, "asyncio"):
        logging.getLogger(name).filters = []


def config() -> Config:
    """As of `hypercorn --access-logfile -`."""
    config = Config()
    config.accesslog = config.errorlog = "-"
    return config


def written(name: str, message: str, *args: object) -> str:
    """What the only handler of a logger writes."""
    (handler,) = logging.getLogger(name).handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(StringIO())
    logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger(name).error(message, *args)
    return str(handler.stream.getvalue())


@pytest.mark.parametrize("name", SERVERS)
def test_hypercorn_writes_our_lines(name: str) -> None:
    """Though it makes its handlers later; a path or a header of a request forges nothing."""
    init_handlers(as_json=False)
    Logger(config())
    line = written(name, "GET %s", EVIL).removesuffix("\n")
    assert line.isprintable()
    assert "[ERROR] GET x\\n[2026" in line
    init_handlers(as_json=True)
    assert json.loads(written(name, "GET %s", EVIL))["message"] == f"GET {EVIL}"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_that_the_user_has_set_up_stays(as_json: bool) -> None:
    """By the server's own options, as by `dictConfig` in a module of the app."""
    init_handlers(as_json=as_json)
    mine = config()
    mine.logconfig_dict = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"mine": {"format": "mine %(message)s"}},
        "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine"}},
        "loggers": {name: {"handlers": ["mine"]} for name in SERVERS},
    }
    Logger(mine)
    assert written(SERVERS[0], "hello") == "mine hello\n"
    assert logging.lastResort is not None
    logging.lastResort.setFormatter(theirs := logging.Formatter("theirs %(message)s"))
    quarts.default_handler.setFormatter(theirs)
    init_handlers(as_json=as_json)
    assert logging.lastResort.formatter is theirs
    assert quarts.default_handler.formatter is theirs


def test_handlers_of_quart_and_python_write_our_lines() -> None:
    """Quart's tells of each fault with the path of the request."""
    handlers = [logging.lastResort, quarts.default_handler]
    for as_json, ours in ((False, LineFormatter), (True, JsonFormatter), (False, LineFormatter)):
        init_handlers(as_json=as_json)
        assert [type(each.formatter) for each in handlers if each is not None] == [ours, ours]


def test_in_an_app_of_somebody_elses_only_our_loggers_write_our_lines() -> None:
    """The others look as they did; JSON, which was asked for, is for all of them."""
    handlers = [each for each in (logging.lastResort, quarts.default_handler) if each is not None]
    evil = [logging.makeLogRecord({"name": n, "msg": EVIL}) for n in ("shop", "services", "root")]
    own = [logging.makeLogRecord({"name": n, "msg": EVIL}) for n in ("service", "service.web")]
    before = [each.format(record) for each in handlers for record in evil]
    init_handlers(as_json=False)
    init_handlers(as_json=False, in_host=True)
    assert [each.format(record) for each in handlers for record in evil] == before
    assert all(each.format(record).isprintable() for each in handlers for record in own)
    init_handlers(as_json=True, in_host=True)
    assert all(json.loads(each.format(record)) for each in handlers for record in (*evil, *own))
    init_handlers(as_json=False, in_host=True)
    Logger(config())
    assert written(SERVERS[0], "GET %s", EVIL).removesuffix("\n").isprintable()


def test_their_formats_are_as_we_know_them() -> None:
    """logs/handlers.py knows by its format a handler that nobody has set up.

    If one of them has another by now, it is not replaced: write that one there.
    """
    formatter = quarts.default_handler.formatter
    assert formatter is not None
    assert formatter._fmt == QUARTS
    Logger(config())
    (handler,) = logging.getLogger(SERVERS[0]).handlers
    assert handler.formatter is not None
    assert handler.formatter._fmt == HYPERCORNS


def test_asyncio_says_once_that_it_accepts_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It tries again and again, and another error of its own is not held back."""
    init_handlers(as_json=False)
    error = OSError(errno.EMFILE, "Too many open files")
    for _ in range(3):
        text = "socket.accept() out of system resource\nsocket: <asyncio.TransportSocket fd=3>"
        logging.getLogger("asyncio").error(text, exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "No connection can be accepted",
        "Task exception was never retrieved",
    ]
