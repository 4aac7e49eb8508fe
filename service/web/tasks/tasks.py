"""The tasks that a caller may start: what they take, and starting a job of one."""

import hashlib
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, current_app, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from service.access.access import access_of, caller_of
from service.errors import InvalidArgumentsError, UnknownTaskError
from service.jobs.arguments import NO_OPTIONS, SendOptions, send_options, tags_of
from service.jobs.handle import TaskHandle
from service.jobs.schema import task_schemas
from service.parts import parts_of
from service.results.marks import MAX_TAG_LENGTH, MAX_TAGS
from service.results.model import State
from service.web.http.negotiation import JSON
from service.web.http.openapi import Operation, parameter
from service.web.http.site import site_of
from service.web.jobs.views import StateName
from service.web.limits.checks import conditions, note_start, read_body

_KEY: Final = "The same key with the same arguments gives the same job."
_MAX_KEY: Final = 255  # characters
_TAGS: Final = f"Up to {MAX_TAGS} short texts by which operators find the job."
_TAG: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TAG_LENGTH}
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder()


class TaskView(msgspec.Struct, frozen=True):
    """A task, with JSON Schemas of its arguments and of its result."""

    name: str
    description: str
    url: str
    arguments: dict[str, Any]
    result: dict[str, Any]

    @classmethod
    def of(cls, handle: TaskHandle[..., Any, Any]) -> "TaskView":
        """The view of a task, with its address in this request."""
        taken, given, components = task_schemas(handle.arguments, "#/$defs/{name}")
        if components:
            taken, given = {**taken, "$defs": components}, {**given, "$defs": components}
        url = url_for("service.tasks.start", name=handle.name)
        return cls(handle.name, handle.__doc__ or "", url, taken, given)


class TasksView(msgspec.Struct, frozen=True):
    """All tasks that the caller may start."""

    tasks: list[TaskView]


class AcceptedView(msgspec.Struct, frozen=True):
    """A job that was accepted, and where to follow it."""

    id: str
    state: StateName
    result_url: str
    events_url: str


tasks = Blueprint("tasks", __name__)


@tasks.get("/tasks", endpoint="index")
@Operation({200: {JSON: TasksView}})
async def list_tasks() -> ResponseReturnValue:
    """The tasks that the caller may start, each with a JSON Schema of its arguments and result."""
    return msgspec.to_builtins(TasksView(await startable_tasks())), {"Cache-Control": "no-store"}


@tasks.post("/tasks/<name>")
@Operation(
    {202: {JSON: AcceptedView}},
    problems=(400, 404, 408, 413, 415, 422, 503),
    parameters=[
        parameter("Idempotency-Key", "header", _KEY, type="string", maxLength=_MAX_KEY),
        parameter("tag", "query", _TAGS, type="array", items=_TAG),
    ],
    per_task=True,
)
async def start(name: str) -> ResponseReturnValue:
    """Start a job of a task with a JSON object of its arguments.

    The same `Idempotency-Key` with the same arguments and tags gives the same job, for as long as
    that is known.
    """
    handle, parts = await startable_task(name), parts_of(current_app)
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _MAX_KEY:
        raise BadRequest(f"An Idempotency-Key has at most {_MAX_KEY} characters.")
    values = await _read_arguments(name)
    args, kwargs = handle.arguments.from_json(values)
    options = _read_options() if request.query_string else NO_OPTIONS
    asked = [values, tags] if (tags := tags_of(options)) else values
    fingerprint = hashlib.sha256(_ENCODER.encode(asked)).hexdigest() if key else ""
    limits = await conditions(key, fingerprint)
    job = await parts.enqueuer.enqueue_if(name, args, kwargs, limits, options)
    note_start(job)
    state = State.QUEUED if job.is_new else (await parts.store.get(job.job_id)).state
    prefix = f"{request.root_path}{site_of(current_app).results}"
    result_url = f"{prefix}/result/{job.job_id}"  # `url_for` takes 5 % of such a request
    return Response(
        _ENCODER.encode(AcceptedView(job.job_id, state.value, result_url, f"{result_url}/events")),
        status=HTTPStatus.ACCEPTED,
        headers={"Location": result_url, "Cache-Control": "no-store"},
        content_type=JSON,
    )


def _read_options() -> SendOptions:
    """What the address asks for besides. Raises BadRequest."""
    tags = request.args.getlist("tag")
    try:
        return send_options(tags=tags or None)
    except ValueError as error:
        raise BadRequest(str(error)) from error


async def startable_tasks() -> list[TaskView]:
    """The tasks that the caller may start."""
    caller, access = await caller_of(), access_of(current_app)
    handles = parts_of(current_app).tasks.values()
    return [TaskView.of(handle) for handle in handles if access.may_start(caller, handle)]


async def startable_task(name: str) -> TaskHandle[..., Any, Any]:
    """The task of this name. Raises UnknownTaskError where the caller may not start one."""
    handle = parts_of(current_app).tasks.get(name)
    if handle is None or not access_of(current_app).may_start(await caller_of(), handle):
        raise UnknownTaskError(name)
    return handle


async def _read_arguments(task: str) -> dict[str, Any]:
    """The arguments by name that the request's body has.

    Raises UnsupportedMediaType, BadRequest, InvalidArgumentsError, and what `read_body` raises.
    """
    if request.mimetype != JSON:
        raise UnsupportedMediaType("The arguments are sent as application/json.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("The body is sent as it is, without a Content-Encoding.")
    data = await read_body()
    try:
        values = _DECODER.decode(data)
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deeply.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgumentsError(task, "", "the body is a JSON object of arguments by name")
    return values
