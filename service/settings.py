"""Every setting: its name, default, unit and meaning. Reports all mistakes in one error."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Final
from urllib.parse import urlsplit

from service.errors import ConfigurationError

PREFIX: Final = "SERVICE_"
CELERY_PREFIX: Final = "SERVICE_CELERY__"
# Variables that Celery reads by itself, and that win over all configuration.
_CELERY_VARIABLES: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)
_MIN_SECRET: Final = 16
_NOT_A_NUMBER: Final = (TypeError, ValueError, OverflowError)


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _redis_url(value: Any) -> str:
    url = urlsplit(str(value))
    if url.scheme not in {"redis", "rediss", "sentinel"} or not url.hostname:
        raise ValueError("must look like redis://host:port/database")
    return str(value)


def _positive_int(value: Any) -> int:
    with suppress(*_NOT_A_NUMBER):
        if (number := int(value)) >= 1:
            return number
    raise ValueError("must be a whole number from 1 up")


def _secret(value: Any) -> str:
    text = str(value)
    if len(text) < _MIN_SECRET:
        raise ValueError(f"must have {_MIN_SECRET} letters or more, or others will guess it")
    return text


def _setting(
    default: Any,
    parse: Callable[[Any], Any],
    meaning: str,
    unit: str = "",
    *,
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"parse": parse, "meaning": meaning, "unit": unit},
    )


def _seconds(default: float, meaning: str, *, or_zero: bool = False) -> Any:
    def parse(value: Any) -> float:
        with suppress(*_NOT_A_NUMBER):
            if 0 < (seconds := float(value)) < float("inf") or (or_zero and seconds == 0):
                return seconds
        raise ValueError(f"must be a number of seconds {'from 0 up' if or_zero else 'above 0'}")

    return _setting(default, parse, meaning, "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The service's configuration; field `x` is the setting `SERVICE_X`."""

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0", _redis_url, "Where the broker and the results are."
    )
    redis_timeout: float = _seconds(
        2.0, "How long a request may wait for Redis before it is answered with 503."
    )
    task_modules: tuple[str, ...] = _setting(
        (), _names, "Modules with task blueprints besides `service/tasks/`, separated by commas."
    )
    result_expires: int = _setting(
        86_400, _positive_int, "How long a job's record and result are kept.", "seconds"
    )
    max_result: int = _setting(
        1_048_576,
        _positive_int,
        "How large a job's record may be; a job whose result is larger fails.",
        "bytes",
    )
    sync_threads: int = _setting(
        32,
        _positive_int,
        "How many sync task bodies the asyncio pool runs at once; each has a thread.",
        "threads",
    )
    grace: float = _seconds(
        30.0,
        "How long a worker that was told to stop lets its jobs go on, before it cancels them and"
        " gives them back to the queue (asyncio pool).",
        or_zero=True,
    )
    loop_warn: float = _seconds(
        0.5,
        "How long a task may block the event loop before the log names it; 0 turns this off.",
        or_zero=True,
    )
    lease: float = _seconds(
        30.0,
        "How long a worker holds a job before it must renew; a killed worker's jobs run again"
        " within 1.5 times this. 0 goes back to Celery's own Redis transport.",
        or_zero=True,
    )
    max_deliveries: int = _setting(
        5,
        _positive_int,
        "How often a job may be delivered without an end before it becomes a dead letter.",
        "deliveries",
    )
    enqueue_timeout: float = _seconds(
        2.0, "How long handing a job to the broker may take before it is given up."
    )
    max_body: int = _setting(
        262_144, _positive_int, "How long a request's body may be; a longer one is a 413.", "bytes"
    )
    max_queue: int = _setting(
        100_000,
        _positive_int,
        "How many jobs may wait in a queue before HTTP takes no more for it (429).",
        "jobs",
    )
    max_waiters: int = _setting(
        10_000,
        _positive_int,
        "How many clients of one process may wait for a change of a job at once (503 beyond).",
        "waiters",
    )
    heartbeat: float = _seconds(
        15.0, "How long an event stream may be silent before it carries a comment."
    )
    recent_jobs: int = _setting(
        10_000, _positive_int, "How many of the most recent jobs the dashboard lists.", "jobs"
    )
    admin_token: str = _setting(
        "",
        _secret,
        "What opens `/dashboard`, 16 letters or more. Where it is not set there is no dashboard;"
        " `service dev` sets one and prints it.",
        secret=True,
    )
    celery: Mapping[str, Any] = field(default_factory=dict)


def read_settings(*sources: Mapping[str, Any]) -> Settings:
    """Build the settings from mappings of `SERVICE_*` names; a later mapping wins.

    Raises ConfigurationError naming every name and value that cannot be used.
    """
    given = {
        name.upper() if name.startswith(CELERY_PREFIX) else name: value
        for source in sources
        for name, value in source.items()
        if name.startswith(PREFIX)
    }
    known = {PREFIX + f.name.upper(): f for f in fields(Settings) if f.metadata}
    values: dict[str, Any] = {}
    celery: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        if name.startswith(CELERY_PREFIX):
            option = name.removeprefix(CELERY_PREFIX).lower()
            celery[option] = value
            if isinstance(value, str):
                with suppress(ValueError):  # JSON (`4`, `true`, `{"a": 1}`) where it is that
                    celery[option] = json.loads(value)
        elif name in known:
            try:
                values[known[name].name] = known[name].metadata["parse"](value)
            except (TypeError, ValueError) as error:
                # Without the value, which may hold a password.
                problems.append(f"{name} cannot be used: {error}.")
        else:
            problems.append(f"{name} is not a setting. README.md has a table of them.")
    if problems:
        raise ConfigurationError(*problems)
    return Settings(**values, celery=celery)


def celery_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The last source for `read_settings`: the variables that Celery reads by itself.

    Celery uses them whatever its configuration says, so the rest of the service has to as well.
    """
    return {
        CELERY_PREFIX + name.removeprefix("CELERY_"): environment[name]
        for name in _CELERY_VARIABLES
        if environment.get(name)
    }
