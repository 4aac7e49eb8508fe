"""This service with users, if `WITH_USERS` is set; its answers tell what the process has used."""

import os
import time

from quart import Request, Response

from service import Caller, create_app

USED = "X-Used"  # microseconds of processor time since the process began


def identify(request: Request) -> Caller | None:
    """Who says so: it stands for a session or a token that was looked up, and costs nothing."""
    user = request.headers.get("X-User")
    return Caller(user) if user else None


app = create_app(identify=identify if os.environ.get("WITH_USERS") else None)


@app.after_request
async def tell(response: Response) -> Response:
    """Tell it."""
    response.headers.add(USED, f"{time.process_time() * 1e6:.0f}")
    return response
