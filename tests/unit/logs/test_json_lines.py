"""A record as one JSON object, whatever is in it."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from service.logs.ids import request_id
from service.logs.json_lines import IdsRecord, JsonFormatter
from tests.unit.logs.test_worker_lines import EVIL, raised


def line(record: logging.LogRecord) -> dict[str, Any]:
    """What is said of the record, on one line that colours nothing."""
    text = JsonFormatter().format(record)
    assert text.splitlines() == [text]
    assert not {"\x1b", "\x9b", "\x7f"} & set(text)
    told: dict[str, Any] = json.loads(text)
    return told


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    logger = logging.Logger("shop")
    return logger.makeRecord("shop", 30, "f", 1, message, args, None, extra=fields)


def test_a_record_is_an_object() -> None:
    """Time is in UTC, as RFC 3339 has it; ids that are not known are left out."""
    told = line(record("sold %s", 3))
    assert told.pop("time").endswith("Z")
    assert told == {"level": "WARNING", "logger": "shop", "message": "sold 3"}
    made = record("x")
    made.created = 1.5
    at = line(made)["time"]
    assert at == "1970-01-01T00:00:01.500000Z"
    assert datetime.fromisoformat(at).timestamp() == 1.5


def test_what_strangers_write_is_a_value() -> None:
    """And halves of characters, which UTF-8 does not have, are escaped."""
    assert line(record(EVIL, who=EVIL)).items() >= {"message": EVIL, "who": EVIL}.items()
    assert line(record("\ud800", who={"a": "\udfff"}))["message"] == "\\ud800"


def test_an_error_is_a_field() -> None:
    """Its traceback with the line breaks."""
    made, error = record("failed"), raised()
    made.exc_info = (type(error), error, error.__traceback__)
    told = line(made)
    assert told["message"] == "failed"
    assert told["exception"].startswith("Traceback (most recent call last):\n")
    assert EVIL in told["exception"]
    assert line(logging.makeLogRecord({"msg": "x", "stack_info": "Stack:\n f"}))["stack"]


def test_extra_stands_beside_ours() -> None:
    """It replaces nothing of ours; what JSON has not is shown as Python shows it."""
    told = line(record("x", price=3, level="mine", tags={"a": [1.5]}, nothing=None, what=object))
    assert told["level"] == "WARNING"
    assert told["price"] == 3
    assert told["tags"] == {"a": [1.5]}
    assert told["what"] == repr(object)
    assert told["nothing"] is None


def test_a_value_that_cannot_be_shown_does_not_cost_the_line() -> None:
    """Such as one that holds itself, or whose `__repr__` raises."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    cycle: list[object] = []
    cycle.append(cycle)
    told = line(record("x", cycle=cycle, bad=Bad()))
    assert (told["message"], told["cycle"], told["bad"]) == ("x", "[[...]]", "<Bad>")


@pytest.fixture
def requested() -> Iterator[str]:
    token = request_id.set("r-1")
    yield "r-1"
    request_id.reset(token)


def test_a_record_knows_its_request(requested: str) -> None:
    """Also where its handler formats it in another thread, without the context."""
    assert line(record("x"))["request_id"] == requested
    kept = IdsRecord("x", 30, "f", 1, "x", (), None)
    request_id.set(None)
    assert line(kept)["request_id"] == requested
