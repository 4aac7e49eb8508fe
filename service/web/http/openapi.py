"""Describes the HTTP interface: an OpenAPI 3.1 document and a page of it, from routes and tasks."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from quart import Blueprint, Quart, current_app, render_template, request
from quart.typing import ResponseReturnValue
from werkzeug.routing import Rule

from service.jobs.schema import task_schemas
from service.parts import parts_of
from service.web.jobs.schemas import SCHEMAS

F = TypeVar("F", bound=Callable[..., Any])

_REF: Final = "#/components/schemas/{name}"
_VERSION: Final = "1.0"  # of the HTTP interface
_OPERATION: Final = "_openapi_operation"
_ID: Final = {"type": "string", "pattern": r"^(?!\.\.?$)[A-Za-z0-9_.-]{1,64}$"}
_RETRY_AFTER: Final = {
    "Retry-After": {"schema": {"type": "string"}, "description": "seconds until trying again"}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What cannot be read from a route: parameters (OpenAPI's own objects), and the answers.

    `answers` maps a status to the content that it has: media type to the name of a schema, None
    for text. `problems` are the statuses that have problem details.
    """

    answers: Mapping[int, Mapping[str, str | None]]
    problems: Sequence[int] = ()
    parameters: Sequence[Mapping[str, Any]] = ()
    per_task: bool = field(default=False)  # the route stands for one path for each public task


def parameter(name: str, where: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional parameter of an operation."""
    return {"name": name, "in": where, "description": description, "schema": schema}


def documented(operation: Operation) -> Callable[[F], F]:
    """Have a route in the document; its docstring is its description."""

    def mark(view: F) -> F:
        setattr(view, _OPERATION, operation)
        return view

    return mark


def build_document(app: Quart) -> dict[str, Any]:
    """The OpenAPI document of an app."""
    schemas: dict[str, Any] = dict(SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        operation: Operation | None = getattr(view, _OPERATION, None)
        if operation is None:
            continue
        method = next(m for m in sorted(rule.methods or ()) if m not in {"HEAD", "OPTIONS"})
        entries = _per_task(app, rule, schemas) if operation.per_task else _plain(rule)
        for path, more in entries:
            described = _describe(operation, inspect.getdoc(view) or "")
            described["parameters"] += more.pop("parameters", [])
            paths.setdefault(path, {})[method.lower()] = {**described, **more}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jobs", "version": _VERSION},
        "servers": [{"url": request.root_path or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _plain(rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    path = rule.rule
    parameters = []
    for name in sorted(rule.arguments):
        path = path.replace(f"<{name}>", f"{{{name}}}")
        parameters.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": _ID,
                "description": "The job's id.",
            }
        )
    yield path, {"operationId": rule.endpoint, "parameters": parameters}


def _per_task(
    app: Quart, rule: Rule, schemas: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for handle in parts_of(app).tasks.values():
        if not handle.public:
            continue
        taken, given, components = task_schemas(handle.arguments, _REF)
        schemas.update(components)
        content = {"application/json": {"schema": taken}}
        yield (
            rule.rule.replace("<name>", handle.name),
            {
                "operationId": f"{rule.endpoint}.{handle.name}",
                "summary": f"Start {handle.name}",
                "description": handle.__doc__ or "",
                "requestBody": {"required": True, "content": content},
                "x-result": given,
            },
        )


def _describe(operation: Operation, text: str) -> dict[str, Any]:
    summary, _, description = text.partition("\n")
    responses: dict[str, Any] = {}
    for status, content in operation.answers.items():
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            **(
                {"content": {kind: _schema(name) for kind, name in content.items()}}
                if content
                else {}
            ),
        }
    for status in sorted({*operation.problems, HTTPStatus.INTERNAL_SERVER_ERROR}):
        responses[str(int(status))] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": _schema("Problem")},
        }
        if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            responses[str(int(status))]["headers"] = _RETRY_AFTER
    return {
        "summary": summary,
        "description": description.strip(),
        "parameters": list(operation.parameters),
        "responses": responses,
    }


def _schema(name: str | None) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(name=name)} if name else {}}


openapi = Blueprint("openapi", __name__)


@openapi.get("/openapi.json")
@documented(Operation(answers={200: {"application/json": None}}))
async def document() -> ResponseReturnValue:
    """This document."""
    return build_document(current_app), {"Cache-Control": "no-store"}


@openapi.get("/docs")
async def docs() -> ResponseReturnValue:
    """The document as a page, which loads nothing from elsewhere."""
    return await render_template("docs.html", document=build_document(current_app))
