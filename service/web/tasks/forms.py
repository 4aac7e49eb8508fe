"""Makes the fields of a form from the JSON Schema of a task's arguments; pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_INPUTS: Final = {"date": "date", "email": "email"}
# A browser's own fields for these know no time zone, which RFC 3339 asks for.
_MOMENTS: Final = {"date-time": "such as 2026-12-24T18:00:00Z", "time": "such as 18:00:00Z"}
_REF: Final = "#/$defs/"


@dataclass(frozen=True, slots=True)
class Option:
    """One of a field's choices: its label, and its value as JSON."""

    label: str
    value: str
    chosen: bool


@dataclass(frozen=True, slots=True)
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
    required = set(schema.get("required", ()))
    definitions = schema.get("$defs", {})
    return tuple(
        _field(name, _resolve(part, definitions), required=name in required, defs=definitions)
        for name, part in schema.get("properties", {}).items()
    )


def _field(
    name: str, schema: Mapping[str, Any], *, required: bool, defs: Mapping[str, Any]
) -> Field:
    default = schema.get("default")
    branches = [_resolve(part, defs) for part in schema.get("anyOf", ())]
    if branches:
        rest = [part for part in branches if part.get("type") != "null"]
        schema = {**schema, **rest[0]} if len(rest) == 1 else {"hint": schema.get("description")}
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        options = tuple(
            Option(str(value), json.dumps(value), chosen=value == default) for value in values
        )
        return Field(name, "choice", not required, options=options, hint=_hint(schema))
    match schema.get("type"):
        case "integer" | "number" as kind:
            shown = "" if default is None else str(default)
            limits = _number_limits(schema)
            return Field(
                name,
                kind,
                not required,
                default=shown,
                limits=limits,
                hint=_hint(schema) or _range(limits.get("min"), limits.get("max")),
            )
        case "boolean":
            return Field(name, "boolean", not required, checked=bool(default), hint=_hint(schema))
        case "string":
            return Field(
                name,
                "text",
                not required,
                default="" if default is None else str(default),
                input=_INPUTS.get(str(schema.get("format")), "text"),
                limits=_text_limits(schema),
                hint=_hint(schema) or _MOMENTS.get(str(schema.get("format")), ""),
            )
        case "array":
            return _list(name, schema, default, required=required, defs=defs)
        case _:
            shown = "" if default is None else json.dumps(default)
            return Field(name, "json", not required, default=shown, hint=_hint(schema) or "JSON")


def _list(
    name: str, schema: Mapping[str, Any], default: Any, *, required: bool, defs: Mapping[str, Any]
) -> Field:
    items = _resolve(schema.get("items") or {}, defs).get("type")
    if items in {"integer", "number", "string"}:
        shown = "\n".join(str(item) for item in default or ())
        kind = "text" if items == "string" else str(items)
        hint = _hint(schema) or "one on each line"
        return Field(name, "list", not required, default=shown, items=kind, hint=hint)
    shown = "" if default is None else json.dumps(default)
    return Field(name, "json", not required, default=shown, hint=_hint(schema) or "JSON")


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
    for name, exclusive, step in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        short = name[:3]
        if name in schema:
            limits[short] = schema[name]
        elif exclusive in schema and whole:
            limits[short] = schema[exclusive] + step
    return limits


def _text_limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    names = {"minLength": "minlength", "maxLength": "maxlength", "pattern": "pattern"}
    return {names[key]: schema[key] for key in names if key in schema}


def _hint(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description") or schema.get("hint") or "")


def _range(low: float | None, high: float | None) -> str:
    """`from 0 to 1,000`, `at least 0`, `at most 10`: the numbers that are taken."""
    if low is not None and high is not None:
        return f"from {low:,} to {high:,}"
    if low is not None:
        return f"at least {low:,}"
    return "" if high is None else f"at most {high:,}"
