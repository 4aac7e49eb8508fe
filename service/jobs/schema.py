"""JSON Schemas of what a task takes and gives, from its annotations."""

import json
from datetime import datetime
from typing import Any

import msgspec

from service.jobs.arguments import Arguments


def task_schemas(
    arguments: Arguments, ref_template: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The schema of the object of arguments, that of the result, and those that they refer to.

    `ref_template` is where the third can be found, with `{name}` for a name.
    """
    parameters = arguments.parameters
    schemas, components = msgspec.json.schema_components(
        [*(parameter.type for parameter in parameters), arguments.returns],
        schema_hook=lambda _: {},
        ref_template=ref_template,
    )
    *given, result = schemas
    properties = {}
    for parameter, schema in zip(parameters, given, strict=True):
        if parameter.type is datetime:  # which msgspec takes with a time zone and without
            schema["format"] = "date-time"
        properties[parameter.name] = schema
        if not parameter.required:
            properties[parameter.name] = {**schema, **_default(parameter.default)}
    taken: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": arguments.takes_more,
    }
    return taken, result, dict(components)


def _default(value: Any) -> dict[str, Any]:
    try:
        plain = msgspec.to_builtins(value)
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError):
        return {}  # not JSON, so no client could give it
    return {"default": plain}
