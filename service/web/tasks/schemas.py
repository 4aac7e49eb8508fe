"""Tells people of a JSON Schema: its members in a table, and a value that fits; pure."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]

_MAX_DEPTH: Final = 4  # of members in members, and of what refers to itself
_LIMITS: Final = {
    "minimum": "at least {:,}",
    "exclusiveMinimum": "more than {:,}",
    "maximum": "at most {:,}",
    "exclusiveMaximum": "less than {:,}",
    "multipleOf": "a multiple of {:,}",
    "minLength": "{:,} letters or more",
    "maxLength": "at most {:,} letters",
    "pattern": "matches {}",
    "minItems": "{:,} items or more",
    "maxItems": "at most {:,} items",
}
_TEXTS: Final = {
    "date-time": "2026-12-24T18:00:00Z",
    "date": "2026-12-24",
    "time": "18:00:00Z",
    "duration": "PT30M",
    "uuid": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
    "decimal": "1.50",
    "base64": "aGVsbG8=",
    "email": "ada@example.com",
    "uri": "https://example.com/",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object as a table shows it: `order.items[].name`, its type, and more.

    `default` is JSON; None where there is none.
    """

    path: str
    type: str
    required: bool
    default: str | None
    about: tuple[str, ...]


def members_of(schema: Schema) -> tuple[Member, ...]:
    """The members of an object, each followed by its own."""
    return (*_walk(schema, schema.get("$defs", {}), "", 0),)


def _walk(schema: Schema, defs: Schema, prefix: str, depth: int) -> Iterator[Member]:
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        part = resolved(given, defs)
        default = given.get("default")
        yield Member(
            f"{prefix}{name}",
            type_of(given, defs),
            name in required,
            None if default is None else json.dumps(default, ensure_ascii=False),
            (*_about(part),),
        )
        if depth < _MAX_DEPTH:
            yield from _nested(part, defs, f"{prefix}{name}", depth + 1)


def _nested(part: Schema, defs: Schema, path: str, depth: int) -> Iterator[Member]:
    items = part.get("items")
    if part.get("type") == "array" and isinstance(items, Mapping):
        part, path = resolved(items, defs), f"{path}[]"
    yield from _walk(part, defs, f"{path}.", depth)


def _about(part: Schema) -> Iterator[str]:
    if description := part.get("description"):
        yield str(description)
    for name, text in _LIMITS.items():
        if name in part:
            yield text.format(part[name])


def type_of(schema: Schema, defs: Schema, depth: int = 0) -> str:  # noqa: PLR0911  one a kind
    """`integer`, `string (date)`, `"red" or "green"`, `list of Item`, `string or null`."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        found = resolved(schema, defs)
        is_object = found.get("type") == "object"
        return name if is_object or depth >= _MAX_DEPTH else type_of(found, defs, depth + 1)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in values)
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(type_of(each, defs, depth + 1) for each in branches))
    match schema.get("type"):
        case "array":
            return _list(schema, defs, depth)
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {type_of(values, defs, depth + 1)}" if values else "object"
        case "string":
            form = schema.get("format") or schema.get("contentEncoding")
            return f"string ({form})" if form else "string"
        case str(kind):
            return kind
    return "any JSON"


def _list(schema: Schema, defs: Schema, depth: int) -> str:
    if places := schema.get("prefixItems"):
        return f"[{', '.join(type_of(each, defs, depth + 1) for each in places)}]"
    items = schema.get("items")
    return f"list of {type_of(items, defs, depth + 1)}" if isinstance(items, Mapping) else "list"


def example_of(schema: Schema) -> dict[str, Any]:
    """Arguments that a client could send: those that are required, or else all with a default."""
    defs = schema.get("$defs", {})
    parts: Schema = schema.get("properties", {})
    if required := schema.get("required"):
        return {name: _fitting(parts[name], defs, name, 0) for name in required}
    return {
        name: part["default"] for name, part in parts.items() if part.get("default") is not None
    }


def _fitting(schema: Schema, defs: Schema, name: str, depth: int) -> Any:  # noqa: PLR0911  one a kind
    part = resolved(schema, defs)
    if part.get("default") is not None:
        return part["default"]
    if "enum" in part or "const" in part:
        return part["enum"][0] if "enum" in part else part["const"]
    if branches := part.get("anyOf") or part.get("oneOf"):
        return _fitting(branches[0], defs, name, depth + 1)
    match part.get("type"):
        case "object":
            required = part.get("required", ()) if depth < _MAX_DEPTH else ()
            properties = part.get("properties", {})
            return {each: _fitting(properties[each], defs, each, depth + 1) for each in required}
        case "array":
            items = part.get("items")
            one = [items] if isinstance(items, Mapping) and depth < _MAX_DEPTH else []
            places = part.get("prefixItems", one)
            return [_fitting(each, defs, name, depth + 1) for each in places]
        case "integer" | "number" as kind:
            return _number(part, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            form = str(part.get("format") or part.get("contentEncoding"))
            text = _TEXTS.get(form) or name
            return text.ljust(part.get("minLength", 0), "x")[: part.get("maxLength")]


def _number(part: Schema, *, whole: bool) -> float:
    """1, or the nearest number that is allowed."""
    number, step = (1, 1) if whole else (1.5, 0.5)
    low: float = part.get("minimum", part.get("exclusiveMinimum", -math.inf) + step)
    high: float = part.get("maximum", part.get("exclusiveMaximum", math.inf) - step)
    number = min(max(number, low), high)
    multiple: float = part.get("multipleOf", 0)
    return -(-number // multiple) * multiple if multiple else number


def resolved(schema: Schema, defs: Schema) -> Schema:
    """The schema that a reference stands for; what stands beside the reference wins."""
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**defs.get(reference.rpartition("/")[2], {}), **beside}
    return schema
