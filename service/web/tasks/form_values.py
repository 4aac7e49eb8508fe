"""Reads what a form posted without scripts as a task's arguments; pure."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from service.errors import InvalidArgumentsError
from service.web.tasks.forms import Field


def values_of(fields: Iterable[Field], posted: Mapping[str, str], task: str) -> dict[str, Any]:
    """The arguments by name, as a client would send them in JSON. Raises InvalidArgumentsError."""
    values: dict[str, Any] = {}
    for field in fields:
        text = posted.get(field.name, "").replace("\r\n", "\n")
        if field.kind == "boolean":
            values[field.name] = bool(text)
        elif text or (field.kind == "text" and not field.optional):
            try:
                values[field.name] = _value(field.kind, field.items, text)
            except (ValueError, RecursionError) as error:
                wanted = "JSON" if field.kind in {"json", "choice"} else "a number"
                raise InvalidArgumentsError(task, field.name, f"it is not {wanted}") from error
        elif field.kind == "list" and not field.optional:
            values[field.name] = []
    return values


def _value(kind: str, items: str, text: str) -> Any:
    match kind:
        case "integer":
            return int(text)
        case "number":
            number = float(text)
            if not math.isfinite(number):
                raise ValueError("JSON has no such number")
            return number
        case "list":
            return [_value(items, "", line) for line in text.split("\n") if line.strip()]
        case "json" | "choice":
            return json.loads(text, parse_constant=_refuse)
        case _:
            return text


def _refuse(constant: str) -> None:
    """Python's JSON reads NaN and Infinity, which no other does."""
    raise ValueError(f"{constant} is not JSON")
