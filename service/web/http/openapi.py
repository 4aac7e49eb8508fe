"""Describes the HTTP interface by an OpenAPI 3.1 document, from the routes and the tasks."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from quart import Blueprint, Quart, current_app, request
from quart.typing import ResponseReturnValue
from werkzeug.routing import Rule

from service.access.access import access_of, caller_of
from service.access.policy import Caller
from service.jobs.schema import task_schemas
from service.parts import parts_of
from service.web.asgi.problem import ProblemView
from service.web.http.negotiation import JSON
from service.web.http.problems import TRY_AGAIN
from service.web.http.site import NAME, site_of

F = TypeVar("F", bound=Callable[..., Any])
View = type[msgspec.Struct]

_REF: Final = "#/components/schemas/{name}"
_VERSION: Final = "1.0"  # of the HTTP interface
_OPERATION: Final = "_openapi_operation"
_JOB_ID: Final = {
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^(?!\.\.?$)[A-Za-z0-9_.-]{1,64}$"},
    "description": "The job's id.",
}
_RETRY_AFTER: Final = {
    "Retry-After": {"schema": {"type": "string"}, "description": "seconds until trying again"}
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A decorator that puts a route into the document; its docstring is the description.

    `answers` maps a status to its content: media type to the view of the JSON, None for anything
    else. `problems` are the statuses with problem details. A route `per_task` stands for one path
    for each task that the caller may start.
    """

    answers: Mapping[int, Mapping[str, View | None]]
    _: KW_ONLY
    problems: Sequence[int] = ()
    parameters: Sequence[Mapping[str, Any]] = ()
    per_task: bool = False

    def __call__(self, route: F) -> F:
        """Mark the route."""
        setattr(route, _OPERATION, self)
        return route


def parameter(name: str, where: str, description: str, **schema: Any) -> dict[str, Any]:
    """An optional parameter of an operation."""
    return {"name": name, "in": where, "description": description, "schema": schema}


def build_document(app: Quart, caller: Caller | None = None) -> dict[str, Any]:
    """The OpenAPI document of an app, with the tasks that the caller may start."""
    schemas = view_schemas(app)
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in _operations(app):
        about = _describe(app, rule, operation)
        entries = (
            _per_task(app, rule, schemas, caller) if operation.per_task else _plain(rule, about)
        )
        for path, more in entries:
            paths.setdefault(path, {})[_method(rule).lower()] = about | more
    return {
        "openapi": "3.1.0",
        "info": {"title": site_of(app).title, "version": _VERSION},
        "servers": [{"url": request.root_path or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def view_schemas(app: Quart) -> dict[str, Any]:
    """The schemas of all that the routes answer, by name."""
    views: set[View] = {ProblemView}
    for _, operation in _operations(app):
        for content in operation.answers.values():
            views.update(filter(None, content.values()))
    _, schemas = msgspec.json.schema_components(views, ref_template=_REF)
    for view in views:
        name = _schema_name(view)
        schemas[name] = schemas.pop(view.__name__) | {"title": name}
    return schemas


def routes_of(app: Quart) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each route the method, the path, and what the document says; one for all tasks."""
    for rule, operation in _operations(app):
        about = _describe(app, rule, operation)
        ((path, more),) = _plain(rule, about)
        yield _method(rule), path, about | more


def _operations(app: Quart) -> Iterator[tuple[Rule, Operation]]:
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], _OPERATION, None)
        if operation is not None:
            yield rule, operation


def _plain(rule: Rule, described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    path = rule.rule.replace("<", "{").replace(">", "}")
    ids = [{"name": name, **_JOB_ID} for name in sorted(rule.arguments & {"job_id"})]
    yield path, {"operationId": _operation_id(rule), "parameters": described["parameters"] + ids}


def _per_task(
    app: Quart, rule: Rule, schemas: dict[str, Any], caller: Caller | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    access = access_of(app)
    for handle in parts_of(app).tasks.values():
        if not access.may_start(caller, handle):
            continue
        taken, given, components = task_schemas(handle.arguments, _REF)
        if any(schemas.get(name, schema) != schema for name, schema in components.items()):
            # Another class has one of the names already: a task's, or one of our own.
            own = _REF.format(name=f"{handle.name}.{{name}}")
            taken, given, components = task_schemas(handle.arguments, own)
            components = {f"{handle.name}.{name}": each for name, each in components.items()}
        schemas.update(components)
        yield (
            rule.rule.replace("<name>", handle.name),
            {
                "operationId": f"{_operation_id(rule)}.{handle.name}",
                "summary": f"Start {handle.name}",
                "description": handle.__doc__ or "",
                "requestBody": {"required": True, "content": {JSON: {"schema": taken}}},
                "x-result": given,
            },
        )


def _method(rule: Rule) -> str:
    return next(each for each in sorted(rule.methods or ()) if each not in {"HEAD", "OPTIONS"})


def _describe(app: Quart, rule: Rule, operation: Operation) -> dict[str, Any]:
    text = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
    summary, _, description = text.partition("\n")
    problem: dict[str, View | None] = {"application/problem+json": ProblemView}
    problems = dict.fromkeys(sorted({*operation.problems, 401, 429, 500}), problem)
    responses: dict[str, dict[str, Any]] = {}
    for code, content in {**operation.answers, **problems}.items():
        answer = responses[str(code)] = {"description": HTTPStatus(code).phrase}
        for kind, view in content.items():
            schema = {"$ref": _REF.format(name=_schema_name(view))} if view else {}
            answer.setdefault("content", {})[kind] = {"schema": schema}
        if code in TRY_AGAIN:
            answer["headers"] = _RETRY_AFTER
    return {
        "summary": summary,
        "description": description.strip(),
        "parameters": list(operation.parameters),
        "responses": responses,
    }


def _operation_id(rule: Rule) -> str:
    return str(rule.endpoint).removeprefix(f"{NAME}.")


def _schema_name(view: View) -> str:
    """A view's name in the document, from which clients' code is generated."""
    return view.__name__.removesuffix("View")


openapi = Blueprint("openapi", __name__)


@openapi.get("/openapi.json")
@Operation({200: {JSON: None}})
async def document() -> ResponseReturnValue:
    """This document."""
    return build_document(current_app, await caller_of()), {"Cache-Control": "no-store"}
