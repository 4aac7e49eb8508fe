"""Makes a form from the JSON Schema of a task's arguments, and reads what it posts; pure."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec

from service.errors import InvalidArgumentsError
from service.web.tasks.schemas import resolved

_INPUTS: Final = {"date": "date", "email": "email"}
# A browser's own fields for times know no time zone, which RFC 3339 asks for.
_HINTS: Final = {
    "date-time": "such as 2026-12-24T18:00:00Z",
    "time": "such as 18:00:00Z",
    "duration": "such as P1DT30M",
    "decimal": "such as 1.50",
    "base64": "bytes, as Base64",
}
_TEXT_LIMITS: Final = {"minLength": "minlength", "maxLength": "maxlength", "pattern": "pattern"}
_MAX_DEPTH: Final = 2  # of fields in fields; what is deeper is JSON


@dataclass(frozen=True, slots=True)
class Option:
    """One of a field's choices: its label, and its value as JSON."""

    label: str
    value: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument as a form shows it, or a field of one: `order.customer.name`.

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
    fields: list[Field] = []
    for name, part in schema.get("properties", {}).items():
        found = resolved(part, definitions)
        if name in required and _has_fields(found) and name.count(".") < _MAX_DEPTH:
            inside = {f"{name}.{inner}": each for inner, each in found["properties"].items()}
            needed = [f"{name}.{inner}" for inner in found.get("required", ())]
            fields += fields_of({"properties": inside, "required": needed, "$defs": definitions})
        else:
            fields.append(_field(name, found, optional=name not in required, defs=definitions))
    return (*fields,)


def filled(
    fields: Iterable[Field], values: Mapping[str, Any], *, as_text: bool = False
) -> tuple[Field, ...]:
    """The same fields with these values of arguments in them, in place of the defaults.

    `as_text`: the values are those that a form has posted, by the names of the fields.
    """
    return tuple(_filled(each, values, as_text=as_text) for each in fields)


def _filled(each: Field, values: Mapping[str, Any], *, as_text: bool) -> Field:
    value: Any = values
    for step in [each.name] if as_text else each.name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return replace(each, checked=False) if as_text else each
        value = value[step]
    if each.kind == "boolean":
        return replace(each, checked=bool(value))
    if as_text:
        text = str(value)
    elif value is None:
        text = "null" if each.kind == "json" else ""
    elif each.kind == "list" and isinstance(value, list):
        text = "\n".join(map(str, value))
    else:
        text = json.dumps(value) if each.kind in {"json", "choice"} else str(value)
    options = tuple(replace(option, chosen=option.value == text) for option in each.options)
    return replace(each, default=text, options=options)


def _has_fields(schema: Mapping[str, Any]) -> bool:
    """Whether it is an object that can be filled in field by field."""
    names = schema.get("properties") or ()
    return bool(names) and schema.get("type") == "object" and not any("." in name for name in names)


def _field(
    name: str, schema: Mapping[str, Any], *, optional: bool, defs: Mapping[str, Any]
) -> Field:
    default = schema.get("default")
    branches = [resolved(part, defs) for part in schema.get("anyOf", ())]
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
            form = str(schema.get("format") or schema.get("contentEncoding"))
            limits = {_TEXT_LIMITS[key]: schema[key] for key in _TEXT_LIMITS if key in schema}
            return make(
                kind="text",
                default=shown,
                input=_INPUTS.get(form, "text"),
                limits=limits,
                hint=hint or _HINTS.get(form, ""),
            )
        case "array":
            items = resolved(schema.get("items") or {}, defs).get("type")
            if items in {"integer", "number", "string"}:
                return make(
                    kind="list",
                    default="\n".join(str(item) for item in default or ()),
                    items="text" if items == "string" else items,
                    hint=hint or "one on each line",
                )
    shown = "" if default is None else json.dumps(default)
    return make(kind="json", default=shown, hint=hint or "JSON")


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
        *outer, name = each.name.split(".")
        inside = values
        for step in outer:
            inside = inside.setdefault(step, {})
        if each.kind == "boolean":
            inside[name] = bool(text)
        elif text or (each.kind == "text" and not each.optional):
            try:
                inside[name] = _value(each.kind, each.items, text)
            except (ValueError, RecursionError) as error:
                wanted = "JSON" if each.kind in {"json", "choice"} else "a number"
                argument, *path = each.name.split(".")
                reason = f"{each.name} is not {wanted}" if path else f"it is not {wanted}"
                raise InvalidArgumentsError(task, argument, reason, (*path,)) from error
        elif each.kind == "list" and not each.optional:
            inside[name] = []
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
