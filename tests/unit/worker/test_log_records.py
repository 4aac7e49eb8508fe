"""A record knows its job, and gets in the way of nobody's `extra` or formatter."""

import copy
import logging
from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.jobs.job import CurrentJob, running
from service.worker.log_records import JobFormatter, JobRecord, WithReasons


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger whose records are JobRecords."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(JobRecord)
    yield logging.Logger("of the test")
    logging.setLogRecordFactory(before)


@pytest.fixture
def in_a_job() -> Iterator[None]:
    token = running.set(CurrentJob(id="7", task="shop.buy", retries=0, report=lambda _: None))
    yield
    running.reset(token)


def record(logger: logging.Logger, **extra: str) -> logging.LogRecord:
    return logger.makeRecord("x", logging.INFO, "f", 1, "hello %s", ("Ada",), None, extra=extra)


def test_outside_of_a_job_a_line_is_as_before(logger: logging.Logger) -> None:
    """A formatter that has the names in it writes nothing for them."""
    assert JobFormatter("%(in_job)s%(message)s", use_color=False).format(record(logger)) == (
        "hello Ada"
    )
    assert logging.Formatter("<%(task_name)s> <%(task_id)s>").format(record(logger)) == "<> <>"


@pytest.mark.usefixtures("in_a_job")
def test_a_line_names_the_job(logger: logging.Logger) -> None:
    """In our format, in any other, and in the copy that a queue's handler makes."""
    line = JobFormatter("%(in_job)s%(message)s", use_color=False).format(record(logger))
    assert line == "shop.buy[7]: hello Ada"
    copied = copy.copy(record(logger))
    for style, text in (("%", "%(task_name)s %(task_id)s"), ("{", "{task_name} {task_id}")):
        assert logging.Formatter(text, style=style).format(copied) == "shop.buy 7"  # type: ignore[arg-type]


@pytest.mark.usefixtures("in_a_job")
def test_extra_of_the_same_name_is_the_users(logger: logging.Logger) -> None:
    """The logging module refuses `extra` that a record has already."""
    line = logging.Formatter("%(task_name)s %(task_id)s").format(record(logger, task_id="mine"))
    assert line == "shop.buy mine"


def test_a_record_of_another_factory_is_shown_without_a_job() -> None:
    """The user's code may make its own."""
    plain = logging.LogRecord("x", logging.INFO, "f", 1, "hello", (), None)
    assert JobFormatter("%(in_job)s%(message)s", use_color=False).format(plain) == "hello"


def test_a_lost_connection_is_logged_with_its_reason(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """The `repr` of redis-py's errors, which Celery writes, is `network:ConnectionError`."""
    logger.addHandler(caplog.handler)
    logger.addFilter(WithReasons())
    logger.warning("%s (%r)", "Connection lost", RedisConnectionError("Connection refused"))
    assert caplog.messages == ["Connection lost ('ConnectionError: Connection refused')"]
