"""`/healthz` and `/readyz`: whether the web side's process is well, and whether it takes requests.

They are for everybody: no limit counts them, no caller is looked for, and they are served under
any Host, as Kubernetes asks for them by a pod's address.
"""

from typing import Final

import msgspec
from quart import Blueprint, Response, current_app
from werkzeug.exceptions import ServiceUnavailable

from service.health.readiness import readiness_of
from service.web.http.negotiation import JSON
from service.web.http.openapi import Operation
from service.web.http.site import PROBES

_RETRY_AFTER: Final = 2  # seconds

probes = Blueprint(PROBES, __name__)


class ProbeView(msgspec.Struct, frozen=True):
    """What a probe that succeeds is told."""

    status: str


@probes.get("/healthz")
@Operation({200: {JSON: ProbeView}})
async def healthz() -> Response:
    """Whether the process is well: the event loop turns. Nothing else is asked."""
    return _answer("healthy")


@probes.get("/readyz")
@Operation({200: {JSON: ProbeView}}, problems=(503,))
async def readyz() -> Response:
    """Whether the process takes requests.

    Redis and the broker have answered within half a second, the start-up is done, and the process
    is not stopping. An answer may be a second old. The problem's `detail` says what is missing.
    """
    if gaps := await readiness_of(current_app).gaps():
        raise ServiceUnavailable(" ".join(gaps), retry_after=_RETRY_AFTER)
    return _answer("ready")


def _answer(status: str) -> Response:
    body = msgspec.json.encode(ProbeView(status))
    return Response(body, content_type=JSON, headers={"Cache-Control": "no-store"})
