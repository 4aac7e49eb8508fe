"""JSON Schemas of what a task takes and returns, from its annotations."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from service.jobs.arguments import Arguments, TaskParameter
from service.jobs.codecs import encode_value, other_schema


class TaskSchemas(NamedTuple):
    """The schema of a task's object of arguments, of its result, and those that they refer to."""

    arguments: dict[str, Any]
    result: dict[str, Any]
    components: dict[str, Any]


def task_schemas(arguments: Arguments, ref_template: str) -> TaskSchemas:
    """The schemas of a task; `ref_template` is the address of a component, with `{name}` in it."""
    parameters = arguments.parameters
    others: dict[str, Any] = {}  # components of what msgspec does not know

    def schema_of_other(annotation: Any) -> dict[str, Any]:
        schema = other_schema(annotation, ref_template)
        others.update(schema.pop("$defs", {}))
        return schema or {"title": annotation.__name__}  # msgspec takes no empty one

    types = [*(p.codec.schema_type for p in parameters), arguments.returns.schema_type]
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=schema_of_other, ref_template=ref_template
    )
    for each, schema in zip(types, schemas, strict=True):
        _tell_moments(inspect.type_info(each), schema, {**components})
    *given, result = schemas
    components = others | components
    taken = {
        "type": "object",
        "properties": {
            parameter.name: schema | _details(parameter)
            for parameter, schema in zip(parameters, given, strict=True)
        },
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": arguments.takes_any_name,
    }
    return TaskSchemas(taken, result, components)


def _tell_moments(info: Any, schema: dict[str, Any], unseen: dict[str, Any]) -> None:
    """Say of text that it is a moment: msgspec does not, for it takes one without a time zone, too.

    `unseen` are the components that were not looked at yet.
    """
    if isinstance(info, inspect.DateTimeType):
        schema.setdefault("format", "date-time")
    elif isinstance(info, inspect.Metadata):
        _tell_moments(info.type, schema, unseen)
    elif isinstance(info, inspect.ListType):
        _tell_moments(info.item_type, schema.get("items", {}), unseen)
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            kind = {inspect.DateTimeType: "string", inspect.ListType: "array"}.get(type(member))
            branches: list[dict[str, Any]] = schema.get("anyOf", [])
            branch = next((each for each in branches if each.get("type") == kind), {})
            _tell_moments(member, branch, unseen)
    elif hasattr(info, "fields"):
        component: Mapping[str, Any] = unseen.pop(info.cls.__name__, {})
        properties = component.get("properties", {})
        for field in info.fields:
            if field.encode_name in properties:
                _tell_moments(field.type, properties[field.encode_name], unseen)


def _details(parameter: TaskParameter) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if not parameter.required:
        try:
            plain = encode_value(parameter.default)
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError):
            return details  # the default is not JSON, so no client could give it
        details["default"] = plain
    return details
