"""Serves an app inside of another ASGI app, which may dispatch in any of the usual ways."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from hypercorn.utils import LifespanFailureError

from service.errors import ConfigurationError

ASGI: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class Mount:
    """An ASGI app that serves `app()` under the path that its host has given it.

    `app` returns None while nothing is started. A host that passes on the lifespan of its server
    starts it by that, and any other by entering `lifespan` in its own.
    """

    def __init__(
        self,
        app: Callable[[], ASGI | None],
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._app = app
        self._lifespan = lifespan

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, as ASGI has it. Raises ConfigurationError where nothing started."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        app = self._app()
        if app is None:
            raise ConfigurationError(
                "Jobs are mounted here but not started. Pass their lifespan to the host, as in"
                " `FastAPI(lifespan=jobs.lifespan)`, or enter `jobs.lifespan(app)` in its own."
            )
        root = scope.get("root_path", "")
        await app({**scope, "path": root + _inner_path(scope["path"], root)}, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        """Start when the server does, and stop with it."""
        phase = "startup"
        await receive()
        try:
            async with self._lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
                phase = "shutdown"
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            # Hypercorn's dispatcher drops the message, and without it the server would go on; this
            # error alone ends it.
            raise LifespanFailureError(phase, str(error)) from error
        await send({"type": "lifespan.shutdown.complete"})


def _inner_path(path: str, root: str) -> str:
    """The part of a path that is the mounted app's, from its `/` on.

    ASGI has all of `root_path` at the beginning of `path`. Behind a proxy that strips its prefix
    some servers have only the rest of it there, and some dispatchers none of it.
    """
    while root:
        if path == root or path.startswith(f"{root}/"):
            return path.removeprefix(root) or "/"
        _, slash, rest = root[1:].partition("/")
        root = slash + rest
    return path
