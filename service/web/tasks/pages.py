"""The front page: greets, starts a job to look at, and has a form for each task to be started."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue

from service.access.access import read_job, shows_arguments
from service.parts import parts_of
from service.web.http.negotiation import HTML, JSON, is_visit, wants_page
from service.web.http.openapi import Operation
from service.web.http.site import render, site_of
from service.web.jobs.views import JobView
from service.web.limits.checks import conditions, read_form
from service.web.tasks.forms import fields_of, values_of
from service.web.tasks.tasks import TaskView, startable_task, startable_tasks

_NO_JOB: Final = "No job was started: see `tasks_url` for those that can be."
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
    """Enqueue the site's first job, such as `demo.my_add(1, 2)`, and show where its result will be.

    With `?job=<id>` a browser is shown that job instead of a new one: a page without scripts
    refreshes itself by that address. What a browser asks for by itself, such as a prefetch or an
    image, starts none.
    """
    if request.method == "HEAD":
        return await _answer_to_head()
    parts, site = parts_of(current_app), site_of(current_app)
    name, args = site.first_job or ("", ())
    job_id = request.args.get("job", "") if wants_page() else ""
    started = not job_id and name in parts.tasks and is_visit()
    if started:
        job_id = await _enqueue(name, args, {})
    greeting = site.greeting or site.title
    if wants_page():
        page = await render(
            "index.html",
            greeting=greeting,
            started=f"{name}({', '.join(map(repr, args))})" if started else "",
            job=await _view(job_id) if job_id else None,
            tasks=[(task, fields_of(task.arguments)) for task in await startable_tasks()],
        )
        return page, _HEADERS
    if not job_id:
        told = {"message": f"{greeting} {_NO_JOB}", "tasks_url": url_for("service.tasks.index")}
        return told, _HEADERS
    result_url = url_for("service.results.show", job_id=job_id)
    return msgspec.to_builtins(GreetingView(greeting, job_id, result_url)), _HEADERS


async def _answer_to_head() -> Response:
    """Start no job: monitors send HEAD all day long to see whether a site is up."""
    parts = parts_of(current_app)
    await parts.store.ping()  # without Redis GET is a 503
    if (site_of(current_app).first_job or ("",))[0] in parts.tasks:
        await (await parts.enqueuer.publisher()).ping()  # as it is without the broker
    response = Response("", mimetype=HTML if wants_page() else JSON, headers=_HEADERS)
    del response.headers["Content-Length"]  # HEAD must not claim GET's length, which is unknown
    return response


@pages.post("/start/<name>", endpoint="start")
async def start_by_form(name: str) -> ResponseReturnValue:
    """Start a job by a form of the front page as it is without scripts, and go to the job."""
    handle = await startable_task(name)
    fields = fields_of(TaskView.of(handle).arguments)
    posted = await read_form()
    values = values_of(fields, posted, name)
    args, kwargs = handle.arguments.from_json(values)
    job_id = await _enqueue(name, args, kwargs)
    return redirect(url_for("service.results.show", job_id=job_id), 303)


async def _view(job_id: str) -> JobView:
    """What the page shows of a job that the caller may see. Raises UnknownJobError."""
    record = await read_job(job_id)
    return JobView(record.result, arguments=await shows_arguments(record))


async def _enqueue(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Enqueue a job, and return its id. Raises QueueFullError and LimitExceededError."""
    enqueuer = parts_of(current_app).enqueuer
    return (await enqueuer.enqueue_if(name, args, kwargs, await conditions())).job_id
