"""`/docs`: the HTTP interface for people, who can try each task that they may start."""

import ast
import json
import shlex
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from quart import Blueprint, current_app, request
from quart.typing import ResponseReturnValue

from service.web.http.openapi import routes_of, view_schemas
from service.web.http.site import render
from service.web.tasks.forms import Field, fields_of
from service.web.tasks.schemas import Member, example_of, members_of, type_of
from service.web.tasks.tasks import TaskView, startable_tasks

_ONE_LINE: Final = 60  # letters of JSON that are shown on one line
# What an answer means, once for all requests.
_PROBLEMS: Final = {
    400: "The request is malformed: its JSON, its `wait`, its key.",
    401: "The token is unknown, was revoked, or has expired.",
    403: "You may see the job, but not do this with it; or a page of another site asks.",
    404: "There is no such task that you may start, or no such job that you may see.",
    405: "The address has no such method; `Allow` has those that it has.",
    408: "The body took too long to come.",
    409: "The job to be cancelled has ended.",
    413: "The body is too long.",
    415: "The body is not `application/json`, or is compressed.",
    421: "The service is not served under this name.",
    422: "The arguments do not fit: `argument`, `reason` and `pointer`, a JSON pointer into the"
    " body, say which and why. Or the key was used with others.",
    429: "Too much waits or is kept already, or you have reached a limit (`violated-policies`)."
    " `Retry-After` says when to try again.",
    500: "A fault of the service.",
    503: "Redis is away, or too many clients wait. `Retry-After` says when to try again, and"
    " `maybe_accepted` whether the job may have been accepted all the same.",
}

docs = Blueprint("docs", __name__)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as the page shows it."""

    task: TaskView
    members: tuple[Member, ...]
    returns: str
    fields: tuple[Field, ...]
    json: str  # arguments that fit
    python: str

    @classmethod
    def of(cls, task: TaskView) -> "TaskEntry":
        """The entry of a task."""
        defs = task.result.get("$defs", {})
        text = _json(example_of(task.arguments))
        members, fields = members_of(task.arguments), fields_of(task.arguments)
        return cls(task, members, type_of(task.result, defs), fields, text, _python(text))


@docs.get("/docs")
async def show() -> ResponseReturnValue:
    """The document as a page, which loads nothing from elsewhere."""
    schemas = view_schemas(current_app)
    page = await render(
        "docs.html",
        origin=f"{request.scheme}://{request.host}",
        entries=[TaskEntry.of(task) for task in await startable_tasks()],
        routes=[
            (method, f"{request.root_path}{path}", about, _successes(about))
            for method, path, about in routes_of(current_app)
        ],
        problems=[(HTTPStatus(status), text) for status, text in _PROBLEMS.items()],
        schemas={
            name: (schema, members_of({**schema, "$defs": schemas}))
            for name, schema in sorted(schemas.items())
        },
        shell=shlex.quote,
    )
    return page, {"Cache-Control": "no-store"}


def _successes(about: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """By the status of each answer that is no problem: its kinds, each with its schema's name."""
    return {
        status: [
            (kind, content["schema"].get("$ref", "").rpartition("/")[2])
            for kind, content in answer.get("content", {}).items()
        ]
        for status, answer in about["responses"].items()
        if int(status) < HTTPStatus.BAD_REQUEST
    }


def _json(values: dict[str, Any]) -> str:
    line = json.dumps(values, ensure_ascii=False)
    return line if len(line) <= _ONE_LINE else json.dumps(values, indent=2, ensure_ascii=False)


def _python(text: str) -> str:
    """The same as Python writes it, which has other words for true, false and null."""
    try:
        ast.literal_eval(text)
    except ValueError:
        return repr(json.loads(text))
    return text
