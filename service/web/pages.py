"""The front page: greets, and starts a job to look at."""

from typing import Final

from quart import Blueprint, render_template, url_for
from quart.typing import ResponseReturnValue

from service.jobs.enqueuer import get_enqueuer
from service.web.negotiation import HTML, JSON, wants_page
from service.web.openapi import Operation, documented

_GREETING: Final = "Hello, world!"

pages = Blueprint("pages", __name__)


@pages.get("/")
@documented(Operation(answers={200: {JSON: "Greeting", HTML: None}}, problems=(503,)))
async def index() -> ResponseReturnValue:
    """Enqueue `demo.my_add(1, 2)` and show where its result will be."""
    job = await get_enqueuer().enqueue("demo.my_add", (1, 2), {})
    result_url = url_for("results.show", job_id=job.id)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if wants_page():
        page = await render_template(
            "index.html", greeting=_GREETING, job=job, result_url=result_url
        )
        return page, headers
    return {"message": _GREETING, "id": job.id, "result_url": result_url}, headers
