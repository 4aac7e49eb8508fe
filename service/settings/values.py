"""Parsers of all settings but numbers; each raises a ValueError that says what was expected."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlsplit

_MIN_SECRET: Final = 16
_LAST_PORT: Final = 65_535
_REDIS_SCHEMES: Final = {"redis", "rediss", "sentinel", "redis-cluster", "rediss-cluster"}

CELERY_PREFIX: Final = "SERVICE_CELERY__"
# Variables that Celery reads by itself, and that win over all configuration.
_CELERY_VARIABLES: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)


def read_names(value: Any) -> tuple[str, ...]:
    """Texts between commas, or of a list."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def read_redis_url(value: Any) -> str:
    """The address of a Redis, of Sentinels, or of nodes of a Redis Cluster."""
    url = urlsplit(str(value))
    if url.scheme not in _REDIS_SCHEMES or not url.hostname:
        raise ValueError("must look like redis://host:port/database")
    return str(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    """What reads one of these words."""

    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise ValueError(f"must be {' or '.join(choices)}")

    return parse


def port(value: Any) -> int:
    """A port, or 0 for none."""
    with suppress(TypeError, ValueError):
        if 0 <= (number := int(value)) <= _LAST_PORT:
            return number
    raise ValueError("must be a port, from 1 to 65535, or 0 for none")


def read_secret(value: Any) -> str:
    """A text that nobody guesses."""
    text = str(value)
    if len(text) < _MIN_SECRET:
        raise ValueError(f"must have {_MIN_SECRET} letters or more, or others will guess it")
    return text


def read_secrets(value: Any) -> tuple[str, ...]:
    """Several of them."""
    return tuple(map(read_secret, read_names(value)))


def read_proxies(value: Any) -> tuple[str, ...]:
    """Addresses and networks, and `unix`."""
    names = read_names(value)
    for name in names:
        if name != "unix":
            ip_network(name, strict=False)
    return names


def read_origins(value: Any) -> tuple[str, ...]:
    """Origins as browsers send them."""
    names = read_names(value)
    if all(re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?", name) for name in names):
        return names
    raise ValueError("an origin looks like https://app.example, in small letters")


def read_hosts(value: Any) -> tuple[str, ...]:
    """Names of hosts, `.name` for all below one, addresses and networks."""
    names = read_names(value)
    for name in names:
        if not re.fullmatch(r"\.?[\w-]+(\.[\w-]+)*", name, re.ASCII):
            ip_network(name.strip("[]"), strict=False)
    return names


def celery_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The last source of the settings: the variables that Celery reads by itself.

    Celery uses them whatever its configuration says, so the rest of the service has to as well.
    """
    return {
        CELERY_PREFIX + name.removeprefix("CELERY_"): environment[name]
        for name in _CELERY_VARIABLES
        if environment.get(name)
    }
