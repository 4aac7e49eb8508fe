"""JSON Schemas of what a task takes and returns, from its annotations."""

import json
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from service.jobs.arguments import Arguments, TaskParameter


class TaskSchemas(NamedTuple):
    """The schema of a task's object of arguments, of its result, and those that they refer to."""

    arguments: dict[str, Any]
    result: dict[str, Any]
    components: dict[str, Any]


def task_schemas(arguments: Arguments, ref_template: str) -> TaskSchemas:
    """The schemas of a task; `ref_template` is the address of a component, with `{name}` in it."""
    parameters = arguments.parameters
    schemas, components = msgspec.json.schema_components(
        [*(parameter.type for parameter in parameters), arguments.returns],
        schema_hook=lambda _: {},
        ref_template=ref_template,
    )
    *given, result = schemas
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


def _details(parameter: TaskParameter) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if parameter.type is datetime:  # which msgspec takes with a time zone and without
        details["format"] = "date-time"
    if not parameter.required:
        try:
            plain = msgspec.to_builtins(parameter.default)
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError):
            return details  # the default is not JSON, so no client could give it
        details["default"] = plain
    return details
