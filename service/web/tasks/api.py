"""The public tasks: which there are, what they take, and starting one."""

import hashlib
from http import HTTPStatus
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, current_app, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from service.errors import UnknownTaskError
from service.jobs.handle import TaskHandle
from service.jobs.schema import task_schemas
from service.jobs.sending.publisher import Conditions
from service.parts import parts_of
from service.results.model import State
from service.web.http.openapi import Operation, documented, parameter
from service.web.tasks.body import read_arguments

_LONGEST_KEY: Final = 255  # characters
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")

tasks = Blueprint("tasks", __name__)


@tasks.get("/tasks")
@documented(Operation(answers={200: {"application/json": "Tasks"}}))
async def index() -> ResponseReturnValue:
    """The public tasks, each with a JSON Schema of its arguments and of its result."""
    found = [
        _description(handle) for handle in parts_of(current_app).tasks.values() if handle.public
    ]
    return {"tasks": found}, {"Cache-Control": "no-store"}


@tasks.post("/tasks/<name>")
@documented(
    Operation(
        answers={202: {"application/json": "Accepted"}},
        problems=(400, 404, 413, 415, 422, 429, 503),
        parameters=[
            parameter(
                "Idempotency-Key",
                "header",
                "The same key with the same arguments gives the same job.",
                type="string",
                maxLength=_LONGEST_KEY,
            )
        ],
        per_task=True,
    )
)
async def start(name: str) -> ResponseReturnValue:
    """Start a job of a public task with a JSON object of its arguments.

    The same `Idempotency-Key` with the same arguments gives the same job, for as long as that
    is known.
    """
    handle = parts_of(current_app).tasks.get(name)
    if handle is None or not handle.public:
        raise UnknownTaskError(name)
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _LONGEST_KEY:
        raise BadRequest(f"An Idempotency-Key has at most {_LONGEST_KEY} characters.")
    values = await read_arguments(name)
    args, kwargs = handle.arguments.from_json(values)
    conditions = Conditions(
        idempotency_key=key,
        fingerprint=hashlib.sha256(_CANONICAL.encode(values)).hexdigest() if key else "",
        limit=parts_of(current_app).settings.max_queue,
    )
    enqueuer, store = parts_of(current_app).enqueuer, parts_of(current_app).store
    job = await enqueuer.enqueue_if(name, args, kwargs, conditions)
    state = State.QUEUED if job.is_new else (await store.get(job.job_id)).state
    result_url = f"{request.root_path}/result/{job.job_id}"  # `url_for` takes 5 % of a request
    accepted = {
        "id": job.job_id,
        "state": state.value,
        "result_url": result_url,
        "events_url": f"{result_url}/events",
    }
    return Response(
        _CANONICAL.encode(accepted),
        status=HTTPStatus.ACCEPTED,
        headers={"Location": result_url, "Cache-Control": "no-store"},
        content_type="application/json",
    )


def _description(handle: TaskHandle[..., Any, Any]) -> dict[str, Any]:
    taken, given, components = task_schemas(handle.arguments, "#/$defs/{name}")
    if components:
        taken, given = {**taken, "$defs": components}, {**given, "$defs": components}
    return {
        "name": handle.name,
        "description": handle.__doc__ or "",
        "url": url_for("tasks.start", name=handle.name),
        "arguments": taken,
        "result": given,
    }
