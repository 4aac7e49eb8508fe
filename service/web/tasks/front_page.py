"""The front page: greets, starts a job to look at, and has a form for each public task."""

from collections.abc import Mapping
from typing import Any, Final

from quart import Blueprint, Response, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue

from service.errors import UnknownTaskError
from service.jobs.handle import TaskHandle
from service.jobs.schema import task_schemas
from service.jobs.sending.publisher import Conditions
from service.parts import parts_of
from service.web.http.negotiation import HTML, JSON, wants_page
from service.web.http.openapi import Operation, documented
from service.web.jobs.timeline import tell
from service.web.tasks.form_values import values_of
from service.web.tasks.forms import Field, fields_of

_GREETING: Final = "Hello, world!"
_TASK: Final = "demo.my_add"
_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}

pages = Blueprint("pages", __name__)


@pages.get("/")
@documented(Operation(answers={200: {JSON: "Greeting", HTML: None}}, problems=(429, 503)))
async def index() -> ResponseReturnValue:
    """Enqueue `demo.my_add(1, 2)` and show where its result will be.

    With `?job=<id>` a browser is shown that job instead of a new one: a page without scripts
    refreshes itself by that address.
    """
    if request.method == "HEAD":
        return await _answer_to_head()
    if wants_page():
        return await _page(request.args.get("job", "")), _HEADERS
    job_id = await _enqueue(_TASK, (1, 2), {})
    body = {
        "message": _GREETING,
        "id": job_id,
        "result_url": url_for("results.show", job_id=job_id),
    }
    return body, _HEADERS


async def _answer_to_head() -> Response:
    """It starts no job: by HEAD a monitor looks whether a site is up, all day long."""
    await parts_of(current_app).store.ping()  # without Redis GET is a 503
    response = Response("", mimetype=HTML if wants_page() else JSON, headers=_HEADERS)
    del response.headers["Content-Length"]  # which would be that of what GET answers
    return response


@pages.post("/start/<name>")
async def start(name: str) -> ResponseReturnValue:
    """Start a job by a form of the front page as it is without scripts, and go to the job."""
    handle = parts_of(current_app).tasks.get(name)
    if handle is None or not handle.public:
        raise UnknownTaskError(name)
    values = values_of(_fields(handle), await request.form, name)
    args, kwargs = handle.arguments.from_json(values)
    job_id = await _enqueue(name, args, kwargs)
    return redirect(url_for("results.show", job_id=job_id), 303)


async def _enqueue(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Enqueue as all of HTTP does, and return the id. Raises QueueFullError."""
    conditions = Conditions(limit=parts_of(current_app).settings.max_queue)
    accepted = await parts_of(current_app).enqueuer.enqueue_if(name, args, kwargs, conditions)
    return accepted.job_id


async def _page(job_id: str) -> str:
    started = not job_id
    if started:
        job_id = await _enqueue(_TASK, (1, 2), {})
    result = await parts_of(current_app).store.get(job_id)
    return await render_template(
        "index.html",
        greeting=_GREETING,
        started=started,
        job=tell(result),
        tasks=[_form(handle) for handle in parts_of(current_app).tasks.values() if handle.public],
    )


def _form(handle: TaskHandle[..., Any, Any]) -> dict[str, Any]:
    return {
        "name": handle.name,
        "summary": (handle.__doc__ or "").strip().split("\n\n")[0],
        "fields": _fields(handle),
    }


def _fields(handle: TaskHandle[..., Any, Any]) -> tuple[Field, ...]:
    taken, _, components = task_schemas(handle.arguments, "#/$defs/{name}")
    return fields_of({**taken, "$defs": components})
