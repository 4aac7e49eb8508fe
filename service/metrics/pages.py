"""`/metrics`: what Prometheus scrapes of a web process, for callers who may see the dashboard."""

import asyncio

from quart import Blueprint, Response, current_app
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from service.access.access import access_of, caller_of
from service.access.policy import Action
from service.metrics.extension import metrics_of

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
async def scrape() -> Response:
    """The metrics in Prometheus' text format."""
    caller = await caller_of()
    if not access_of(current_app).may_do(caller, Action.WATCH):
        if caller is not None:
            raise Forbidden("This is for callers with the role viewer, operator or admin.")
        raise Unauthorized(
            "Send the admin token, or a token with the scope viewer, as `Authorization: Bearer`.",
            www_authenticate=WWWAuthenticate("bearer"),
        )
    # In a thread: it reads from Redis, and there may be thousands of lines.
    text, content_type = await asyncio.to_thread(metrics_of(current_app).expose)
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
