"""Makes a form from the JSON Schema of a task's arguments, and reads what it posts; pure."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from service.errors import InvalidArgumentsError

_INPUTS: Final = {"date": "date", "email": "email"}
# A browser's own fields for these know no time zone, which RFC 3339 asks for.
_TIME_HINTS: Final = {"date-time": "such as 2026-12-24T18:00:00Z", "time": "such as 18:00:00Z"}
_TEXT_LIMITS: Final = {"minLength": "minlength", "maxLength": "maxlength", "pattern": "pattern"}
_REF: Final = "#/$defs/"


@dataclass(frozen=True, slots=True)
class Option:
    """One of a field's choices: its label, and its value as JSON."""

    label: str
    value: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument as a form shows it.

    `kind` is how the page's script reads it: integer, number, text, boolean, choice, list (items
    of the kind `items`, one on each line) or json. `optional` ones are left out when empty.
    """

    name: str
    kind: str
    optional: bool
    default: str = ""
    checked: bool = False
    options: tuple[Option, ...] = ()
    items: str = ""
    input: str = "text"
    limits: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields for a schema of arguments, which is that of an object."""
    required = schema.get("required", ())
    definitions = schema.get("$defs", {})
    return tuple(
        _field(name, _resolve(part, definitions), optional=name not in required, defs=definitions)
        for name, part in schema.get("properties", {}).items()
    )


def _field(
    name: str, schema: Mapping[str, Any], *, optional: bool, defs: Mapping[str, Any]
) -> Field:
    default = schema.get("default")
    branches = [_resolve(part, defs) for part in schema.get("anyOf", ())]
    rest = [part for part in branches if part.get("type") != "null"]
    if branches:
        known = {"description": schema.get("description")}
        schema = {**schema, **rest[0]} if len(rest) == 1 else known
    hint = str(schema.get("description") or "")
    make = partial(Field, name=name, optional=optional)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        options = tuple(Option(str(value), json.dumps(value), value == default) for value in values)
        return make(kind="choice", options=options, hint=hint)
    shown = "" if default is None else str(default)
    match schema.get("type"):
        case "integer" | "number" as kind:
            limits = _number_limits(schema)
            hint = hint or _range(limits.get("min"), limits.get("max"))
            return make(kind=kind, default=shown, limits=limits, hint=hint)
        case "boolean":
            return make(kind="boolean", checked=bool(default), hint=hint)
        case "string":
            form = str(schema.get("format"))
            limits = {_TEXT_LIMITS[key]: schema[key] for key in _TEXT_LIMITS if key in schema}
            return make(
                kind="text",
                default=shown,
                input=_INPUTS.get(form, "text"),
                limits=limits,
                hint=hint or _TIME_HINTS.get(form, ""),
            )
        case "array":
            items = _resolve(schema.get("items") or {}, defs).get("type")
            if items in {"integer", "number", "string"}:
                return make(
                    kind="list",
                    default="\n".join(str(item) for item in default or ()),
                    items="text" if items == "string" else items,
                    hint=hint or "one on each line",
                )
    shown = "" if default is None else json.dumps(default)
    return make(kind="json", default=shown, hint=hint or "JSON")


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference stands for; what stands beside the reference wins."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**definitions.get(reference.removeprefix(_REF), {}), **beside}


def _number_limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    whole = schema.get("type") == "integer"
    limits: dict[str, Any] = {"step": 1 if whole else "any"}
    for short, step in (("min", 1), ("max", -1)):
        if f"{short}imum" in schema:
            limits[short] = schema[f"{short}imum"]
        elif whole and (exclusive := f"exclusive{short.capitalize()}imum") in schema:
            limits[short] = schema[exclusive] + step
    return limits


def _range(low: float | None, high: float | None) -> str:
    """`from 0 to 1,000`, `at least 0`, `at most 10`: the numbers that are taken."""
    if low is not None and high is not None:
        return f"from {low:,} to {high:,}"
    if low is not None:
        return f"at least {low:,}"
    return "" if high is None else f"at most {high:,}"


def values_of(fields: Iterable[Field], posted: Mapping[str, str], task: str) -> dict[str, Any]:
    """The arguments by name that a form posted without scripts, as a client would send them in
    JSON. Raises InvalidArgumentsError.
    """
    values: dict[str, Any] = {}
    for each in fields:
        text = posted.get(each.name, "").replace("\r\n", "\n")
        if each.kind == "boolean":
            values[each.name] = bool(text)
        elif text or (each.kind == "text" and not each.optional):
            try:
                values[each.name] = _value(each.kind, each.items, text)
            except (ValueError, RecursionError) as error:
                wanted = "JSON" if each.kind in {"json", "choice"} else "a number"
                raise InvalidArgumentsError(task, each.name, f"it is not {wanted}") from error
        elif each.kind == "list" and not each.optional:
            values[each.name] = []
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
            return msgspec.json.decode(text)  # without NaN and Infinity, which `json` would take
        case _:
            return text
