"""Reads the settings from mappings, such as the environment; all mistakes in one error."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final

from service.errors import ConfigurationError
from service.settings.settings import Settings
from service.settings.values import CELERY_PREFIX

PREFIX: Final = "SERVICE_"


def read_settings(*sources: Mapping[str, Any]) -> Settings:
    """Build the settings from mappings of `SERVICE_*` names; a later mapping wins.

    Raises ConfigurationError naming every name and value that cannot be used.
    """
    given = {
        name.upper() if name.startswith(CELERY_PREFIX) else name: value
        for source in sources
        for name, value in _flat(source)
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
            problems.append(f"{name} is not a setting. service/docs/settings.md lists them.")
    if problems:
        raise ConfigurationError(*problems)
    return Settings(**values, celery=celery)


def _flat(source: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The names and values; a mapping SERVICE_CELERY, as files and Quart's own reading of the
    environment give it, as one name for each of Celery's settings.
    """
    for name, value in source.items():
        if f"{name}__" == CELERY_PREFIX and isinstance(value, Mapping):
            yield from ((f"{CELERY_PREFIX}{option}", inner) for option, inner in value.items())
        else:
            yield name, value
