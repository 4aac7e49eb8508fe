"""The front page: greets, starts a job to look at, and has a form for each public task."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, current_app, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue

from service.jobs.sending.message import Conditions
from service.parts import parts_of
from service.web.http.negotiation import HTML, JSON, wants_page
from service.web.http.openapi import Operation
from service.web.jobs.views import JobView
from service.web.tasks.forms import fields_of, values_of
from service.web.tasks.tasks import TaskView, public_task, public_tasks

_GREETING: Final = "Hello, world!"
_TASK: Final = "demo.my_add"
_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept"}


class GreetingView(msgspec.Struct, frozen=True):
    """The greeting, and the job that was started with it."""

    message: str
    id: str
    result_url: str


pages = Blueprint("pages", __name__)


@pages.get("/", endpoint="index")
@Operation({200: {JSON: GreetingView, HTML: None}}, problems=(429, 503))
async def show_front_page() -> ResponseReturnValue:
    """Enqueue `demo.my_add(1, 2)` and show where its result will be.

    With `?job=<id>` a browser is shown that job instead of a new one: a page without scripts
    refreshes itself by that address.
    """
    if request.method == "HEAD":
        return await _answer_to_head()
    shown = request.args.get("job", "") if wants_page() else ""
    job_id = shown or await _enqueue(_TASK, (1, 2), {})
    if not wants_page():
        greeting = GreetingView(_GREETING, job_id, url_for("results.show", job_id=job_id))
        return msgspec.to_builtins(greeting), _HEADERS
    page = await render_template(
        "index.html",
        greeting=_GREETING,
        started=not shown,
        job=JobView(await parts_of(current_app).store.get(job_id)),
        tasks=[(task, fields_of(task.arguments)) for task in public_tasks()],
    )
    return page, _HEADERS


async def _answer_to_head() -> Response:
    """Start no job: monitors send HEAD all day long to see whether a site is up."""
    await parts_of(current_app).store.ping()  # without Redis GET is a 503
    response = Response("", mimetype=HTML if wants_page() else JSON, headers=_HEADERS)
    del response.headers["Content-Length"]  # HEAD must not claim GET's length, which is unknown
    return response


@pages.post("/start/<name>", endpoint="start")
async def start_by_form(name: str) -> ResponseReturnValue:
    """Start a job by a form of the front page as it is without scripts, and go to the job."""
    handle = public_task(name)
    fields = fields_of(TaskView.of(handle).arguments)
    values = values_of(fields, await request.form, name)
    args, kwargs = handle.arguments.from_json(values)
    job_id = await _enqueue(name, args, kwargs)
    return redirect(url_for("results.show", job_id=job_id), 303)


async def _enqueue(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Enqueue a job unless the queue is full, and return its id. Raises QueueFullError."""
    parts = parts_of(current_app)
    conditions = Conditions(limit=parts.settings.max_queue)
    return (await parts.enqueuer.enqueue_if(name, args, kwargs, conditions)).job_id
