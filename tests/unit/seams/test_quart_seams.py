"""Pins what the package leans on in Quart and Hypercorn without their promising it."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import EventWrapper, WorkerContext
from hypercorn.middleware.dispatcher import AsyncioDispatcherMiddleware
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from quart import Quart, Response
from quart.app import Quart as QuartApp
from quart.asgi import ASGIHTTPConnection
from quart.routing import QuartRule
from werkzeug.routing import Map

from service import Jobs
from service.web.http.rules import CompiledOnceRule


def test_equal_rules_are_compiled_once() -> None:
    """If it fails, web/http/rules.py has to find out anew what takes so long in adding a rule.

    Without it an app takes 6 ms more to be made, and nothing else changes.
    """

    def rule() -> Any:
        made = CompiledOnceRule("/job/<uuid:id>/<path:rest>", endpoint="job")
        pages = CompiledOnceRule("/<int(fixed_digits=3):page>", endpoint="page")
        first = CompiledOnceRule("/", endpoint="page", defaults={"page": 1})
        urls = Map([made, pages, first]).bind("host")
        assert urls.build("page", {"page": 1}) == "/"
        assert urls.build("page", {"page": 7}) == "/007"
        return made

    one, two = rule(), rule()
    assert one._build.__func__ is two._build.__func__
    assert one._build_unknown.__func__ is not one._build.__func__
    values = {"id": UUID(int=1), "rest": "a b/c", "more": 1}
    assert two.build(values) == ("", f"/job/{UUID(int=1)}/a%20b/c?more=1")


def test_the_rules_of_a_host_are_its_own() -> None:
    """Those that it adds itself, and all where its app has a class of rules."""
    app = Quart(__name__)
    Jobs(app)
    app.add_url_rule("/own", "own", lambda: "")
    kinds = {rule.endpoint: type(rule) for rule in app.url_map.iter_rules()}
    assert kinds["own"] is QuartRule
    assert CompiledOnceRule in kinds.values()

    class HostsRule(QuartRule): ...

    host = Quart(__name__, static_folder=None)
    host.url_rule_class = HostsRule
    Jobs(host)
    assert {type(rule) for rule in host.url_map.iter_rules()} == {HostsRule}


async def test_a_request_runs_in_one_task_from_its_view_to_the_end_of_its_body() -> None:
    """web/http/streams.py has `when_request_ends` hang on that task.

    If views run in tasks of their own, what a client held is let go too soon or never: find the
    task that ends with the request.
    """
    app = Quart(__name__)
    ended = asyncio.Event()
    seen: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        seen.append(ended.is_set())
        yield b"x"

    @app.get("/")
    async def view() -> Response:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: ended.set())
        return Response(body())

    await app.test_client().get("/")
    await asyncio.wait_for(ended.wait(), 5)
    assert seen == [False]


async def test_a_client_that_leaves_cancels_the_task_of_its_request() -> None:
    """web/http/streams.py: whatever was held for it is let go.

    If that task goes on, nobody ends the streams of those who left.
    """
    app = Quart(__name__)
    began, ended = asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def view() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: ended.set())
        began.set()
        await asyncio.Event().wait()
        return "never"

    async def receive() -> Any:
        await began.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nothing can be sent to a client that has left")

    scope: Any = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
    more: Any = {"asgi": {}, "http_version": "1.1", "scheme": "http", "query_string": b""}
    await asyncio.wait_for(app(scope | more, receive, send), 5)
    await asyncio.wait_for(ended.wait(), 5)


def test_a_response_may_take_as_long_as_it_likes() -> None:
    """web/http/streams.py sets `timeout` to None.

    If it is not asked for, Quart cuts event streams at RESPONSE_TIMEOUT.
    """
    source = inspect.getsource(ASGIHTTPConnection.handle_request)
    assert "timeout = cast(float | None, response.timeout)" in source
    assert "wait_for(self._send_response(send, response), timeout=timeout)" in source


def test_hypercorn_says_through_send_that_it_stops() -> None:
    """web/asgi/middleware.py reads `send.__self__.context.terminated`, and waits for it.

    If it is elsewhere, event streams are cut after the graceful timeout in place of ending.
    """
    for stream in (HTTPStream, WSStream):
        assert "self.context = context" in inspect.getsource(stream.__init__)
        assert "self.app_send" in inspect.getsource(stream.handle)
        assert inspect.iscoroutinefunction(stream.app_send)
    assert "send," in inspect.getsource(TaskGroup.spawn_app)
    context = WorkerContext(None)
    assert isinstance(context.terminated, EventWrapper)
    assert inspect.iscoroutinefunction(context.terminated.wait)


def test_hypercorn_ends_for_one_error_of_a_start_alone() -> None:
    """web/asgi/mount.py raises it, for Hypercorn's dispatcher drops what an app says of a failure.

    If a server goes on for which the jobs have not started, find what ends it instead.
    """
    source = inspect.getsource(Lifespan.handle_lifespan)
    assert "except (LifespanFailureError, asyncio.CancelledError):\n            raise" in source
    assert "error.subgroup((LifespanFailureError, asyncio.CancelledError))" in source
    assert "startup.failed" not in inspect.getsource(AsyncioDispatcherMiddleware)


def test_the_asgi_app_can_be_wrapped() -> None:
    """web/asgi/middleware.py does, as Quart's documentation has it.

    If `__call__` does not go through it, neither start-up checks nor refusals are heard.
    """
    assert "self.asgi_app(scope, receive, send)" in inspect.getsource(QuartApp.__call__)
