"""Whether a web process takes requests: asks the broker and Redis, once for many that ask."""

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from typing import Any, Final

from quart import Quart

from service.parts import Parts
from service.processes.notify import READY, STOPPING, Notifier
from service.redis.bounded import bounded
from service.redis.clients import broker_redis_url, broker_url

_EXTENSION: Final = "service.health"
_WITHIN: Final = 0.5  # seconds in which each of them has to answer
_FRESH: Final = 1.0  # seconds for which an answer is used again
_AWAY: Final = "is not available"


class Readiness:
    """What keeps an app from being ready. To be used on one loop."""

    def __init__(self, parts: Parts) -> None:
        self._has_started = False
        self._notifier: Notifier | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._parts = parts
        self._asking: asyncio.Task[list[str]] | None = None
        self._asked_at = 0.0  # by the loop's clock

    async def gaps(self) -> list[str]:
        """A sentence for each thing that is missing; none where the app is ready."""
        if not self._has_started:
            return ["The start-up is not done."]
        if self._parts.watcher.stopping.is_set():
            return ["The process is stopping."]
        now = asyncio.get_running_loop().time()
        if self._asking is None or now - self._asked_at >= _FRESH:
            self._asked_at = now
            # Not in the context of the request, which would live as long as the answer.
            self._asking = asyncio.create_task(self._ask(), context=Context())
        return await asyncio.shield(self._asking)  # which others may wait for, too

    def begin(self, notifier: Notifier | None) -> None:
        """Be ready from now on, and tell the service manager, if there is one."""
        self._has_started = True
        self._notifier = notifier
        if notifier is not None:
            notifier.tell(READY)
            self._feeding = asyncio.create_task(notifier.feed_watchdog())

    async def aclose(self) -> None:
        """Be ready no more."""
        self._has_started = False
        if self._notifier is not None:
            self._notifier.tell(STOPPING)
        if tasks := {task for task in (self._asking, self._feeding) if task is not None}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._asking = self._feeding = None

    async def _ask(self) -> list[str]:
        parts = self._parts
        url, redis_url = broker_url(parts.settings), parts.settings.redis_url
        asked: dict[str, Awaitable[Any]] = {"Redis": parts.redis.ping()}
        if broker_redis_url(parts.settings) != url:
            publisher = await parts.enqueuer.publisher()
            asked[publisher.server] = publisher.ping()
        elif url != redis_url:
            asked["The broker"] = parts.broker_redis.ping()
        found = await asyncio.gather(*(_gap(name, ping) for name, ping in asked.items()))
        return [gap for gap in found if gap]


async def _gap(name: str, ping: Awaitable[object]) -> str:
    """What is wrong with a server, in a sentence without its address; empty where it answers."""
    try:
        async with bounded(_WITHIN):
            await ping
    except Exception as error:  # noqa: BLE001  whatever it is, the process takes no requests
        is_silent = isinstance(error.__cause__, TimeoutError)
        return f"{name} {f'does not answer within {_WITHIN:g} s' if is_silent else _AWAY}."
    return ""


def add_readiness(app: Quart, parts: Parts) -> Readiness:
    """Give the app its readiness."""
    readiness = app.extensions[_EXTENSION] = Readiness(parts)
    return readiness


def readiness_of(app: Quart) -> Readiness:
    """The app's readiness."""
    readiness: Readiness = app.extensions[_EXTENSION]
    return readiness
