"""JSON Schemas of what the service answers."""

from typing import Any, Final

from service.results.model import State

_MOMENT: Final = {"type": ["string", "null"], "format": "date-time"}
_STATE: Final = {"type": "string", "enum": [state.value for state in State]}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": [*properties], **more}


SCHEMAS: Final[dict[str, Any]] = {
    "Greeting": _object(
        {
            "message": {"type": "string"},
            "id": {"type": "string"},
            "result_url": {"type": "string"},
        }
    ),
    "Tasks": _object(
        {
            "tasks": {
                "type": "array",
                "items": _object(
                    {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "url": {"type": "string"},
                        "arguments": {"type": "object"},
                        "result": {"type": "object"},
                    }
                ),
            }
        }
    ),
    "Accepted": _object(
        {
            "id": {"type": "string"},
            "state": _STATE,
            "result_url": {"type": "string"},
            "events_url": {"type": "string"},
        }
    ),
    "Result": _object(
        {
            "id": {"type": "string"},
            "task": {"type": ["string", "null"]},
            "state": _STATE,
            "ready": {"type": "boolean", "description": "Whether the job has ended."},
            "successful": {"type": "boolean"},
            "result": {"description": "What the task returned, once it has."},
            "error": {
                "anyOf": [
                    _object({"type": {"type": "string"}, "message": {"type": "string"}}),
                    {"type": "null"},
                ]
            },
            "progress": {
                "anyOf": [
                    _object(
                        {
                            "current": {"type": "number"},
                            "total": {"type": ["number", "null"]},
                            "note": {"type": "string"},
                        }
                    ),
                    {"type": "null"},
                ]
            },
            "queued_at": _MOMENT,
            "started_at": _MOMENT,
            "finished_at": _MOMENT,
        }
    ),
    "Problem": {
        **_object(
            {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            }
        ),
        "description": "Problem details (RFC 9457); some have members besides these.",
    },
}
