"""The public tasks: which there are, what they take, and starting a job of one."""

import hashlib
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, current_app, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from service.errors import InvalidArgumentsError, UnknownTaskError
from service.jobs.handle import TaskHandle
from service.jobs.schema import task_schemas
from service.jobs.sending.message import Conditions
from service.parts import parts_of
from service.results.model import State
from service.web.http.negotiation import JSON
from service.web.http.openapi import Operation, parameter
from service.web.jobs.views import StateName

_KEY: Final = "The same key with the same arguments gives the same job."
_MAX_KEY: Final = 255  # characters
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder()


class TaskView(msgspec.Struct, frozen=True):
    """A public task, with JSON Schemas of its arguments and of its result."""

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
        url = url_for("tasks.start", name=handle.name)
        return cls(handle.name, handle.__doc__ or "", url, taken, given)


class TasksView(msgspec.Struct, frozen=True):
    """All public tasks."""

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
    """The public tasks, each with a JSON Schema of its arguments and of its result."""
    return msgspec.to_builtins(TasksView(public_tasks())), {"Cache-Control": "no-store"}


@tasks.post("/tasks/<name>")
@Operation(
    {202: {JSON: AcceptedView}},
    problems=(400, 404, 413, 415, 422, 429, 503),
    parameters=[parameter("Idempotency-Key", "header", _KEY, type="string", maxLength=_MAX_KEY)],
    per_task=True,
)
async def start(name: str) -> ResponseReturnValue:
    """Start a job of a public task with a JSON object of its arguments.

    The same `Idempotency-Key` with the same arguments gives the same job, for as long as that
    is known.
    """
    handle, parts = public_task(name), parts_of(current_app)
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _MAX_KEY:
        raise BadRequest(f"An Idempotency-Key has at most {_MAX_KEY} characters.")
    values = await _read_arguments(name)
    args, kwargs = handle.arguments.from_json(values)
    conditions = Conditions(
        idempotency_key=key,
        fingerprint=hashlib.sha256(_ENCODER.encode(values)).hexdigest() if key else "",
        limit=parts.settings.max_queue,
    )
    job = await parts.enqueuer.enqueue_if(name, args, kwargs, conditions)
    state = State.QUEUED if job.is_new else (await parts.store.get(job.job_id)).state
    result_url = f"{request.root_path}/result/{job.job_id}"  # `url_for` takes 5 % of such a request
    return Response(
        _ENCODER.encode(AcceptedView(job.job_id, state.value, result_url, f"{result_url}/events")),
        status=HTTPStatus.ACCEPTED,
        headers={"Location": result_url, "Cache-Control": "no-store"},
        content_type=JSON,
    )


def public_tasks() -> list[TaskView]:
    """The tasks that HTTP may start."""
    handles = parts_of(current_app).tasks.values()
    return [TaskView.of(handle) for handle in handles if handle.public]


def public_task(name: str) -> TaskHandle[..., Any, Any]:
    """The task of this name. Raises UnknownTaskError where HTTP may not start one."""
    handle = parts_of(current_app).tasks.get(name)
    if handle is None or not handle.public:
        raise UnknownTaskError(name)
    return handle


async def _read_arguments(task: str) -> dict[str, Any]:
    """The arguments by name that the request's body has.

    Raises UnsupportedMediaType, BadRequest, InvalidArgumentsError, and RequestEntityTooLarge
    for more than SERVICE_MAX_BODY.
    """
    if request.mimetype != JSON:
        raise UnsupportedMediaType("The arguments are sent as application/json.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("The body is sent as it is, without a Content-Encoding.")
    data = await request.get_data(cache=False)
    try:
        values = _DECODER.decode(data)
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deeply.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgumentsError(task, "", "the body is a JSON object of arguments by name")
    return values
