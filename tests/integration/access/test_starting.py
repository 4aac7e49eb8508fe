"""Who may start a task, and that a request's caller is found once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from quart import Quart, Request

from service import Action, Caller, Jobs, Subject, TaskBlueprint, allow_by_default

tasks = TaskBlueprint("access")


@tasks.task(public=True)
async def for_all() -> None:
    """Anyone may start it."""


@tasks.task(allow="staff")
async def for_staff() -> None:
    """Callers with a role may."""


@tasks.task(allow=lambda caller: caller is not None and caller.id == "ada")
async def for_ada() -> None:
    """One caller may."""


@tasks.task
async def for_nobody() -> None:
    """Only code starts it."""


NAMES = {"access.for_all", "access.for_staff", "access.for_ada", "access.for_nobody"}


def identify(request: Request) -> Caller | None:
    """As a proxy in front might tell: `X-Test-User: ada staff`."""
    user, *roles = request.headers.get("X-Test-User", "").split(" ")
    return Caller(user, set(roles)) if user else None


@asynccontextmanager
async def serving(redis_url: str, **options: Any) -> AsyncIterator[Any]:
    """A client of an app with the tasks above."""
    app = Quart(__name__)
    options = {"tasks": [tasks], "config": {"SERVICE_REDIS_URL": redis_url}, **options}
    Jobs(app, url_prefix="", **options)
    async with app.test_app():
        yield app.test_client()


@pytest.mark.parametrize(
    ("user", "startable"),
    [
        ("", {"access.for_all"}),
        ("ada", {"access.for_all", "access.for_ada"}),
        ("bob staff", {"access.for_all", "access.for_staff"}),
        ("root admin", {"access.for_all", "access.for_staff"}),
    ],
)
async def test_a_task_says_who_may_start_it(redis_url: str, user: str, startable: set[str]) -> None:
    """For others it does not exist: in the list, in the document, on the page, at its address."""
    headers = {"X-Test-User": user}
    async with serving(redis_url, identify=identify) as client:
        listed = await (await client.get("/tasks", headers=headers)).get_json()
        assert {task["name"] for task in listed["tasks"]} == startable
        document = await (await client.get("/openapi.json", headers=headers)).get_json()
        page = await client.get("/", headers={**headers, "Accept": "text/html"})
        html = await page.get_data(as_text=True)
        for name in NAMES:
            started = await client.post(f"/tasks/{name}", json={}, headers=headers)
            by_form = await client.post(f"/start/{name}", form={}, headers=headers)
            is_startable = name in startable
            assert started.status_code == (202 if is_startable else 404)
            assert by_form.status_code == (303 if is_startable else 404)
            assert (f"/tasks/{name}" in document["paths"]) is is_startable
            assert (f"/start/{name}" in html) is is_startable


async def test_a_policy_of_the_apps_own_narrows_what_tasks_say(redis_url: str) -> None:
    """It cannot open what no task's declaration opens."""
    asked: list[tuple[Caller | None, Action, Subject]] = []

    def allow(caller: Caller | None, action: Action, subject: Subject) -> bool:
        asked.append((caller, action, subject))
        return allow_by_default(caller, action, subject) and subject.task != "access.for_all"

    async with serving(redis_url, identify=identify, allow=allow) as client:
        for name in NAMES:
            headers = {"X-Test-User": "ada"}
            answer = await client.post(f"/tasks/{name}", json={}, headers=headers)
            assert answer.status_code == (202 if name == "access.for_ada" else 404)
    assert (Caller("ada"), Action.START, Subject(task="access.for_ada")) in asked


async def test_a_request_is_asked_once_who_sends_it(redis_url: str) -> None:
    """It may cost a look into a database."""
    seen: list[str] = []

    async def identify(request: Request) -> Caller | None:
        seen.append(request.path)
        return None

    async with serving(redis_url, identify=identify) as client:
        await client.get("/", headers={"Accept": "text/html"})
        assert seen == ["/"]


async def test_what_identify_gives_is_a_caller(redis_url: str) -> None:
    """Anything else is a mistake that must not open anything."""
    async with serving(redis_url, identify=lambda _: "ada") as client:
        assert (await client.get("/tasks")).status_code == 500
