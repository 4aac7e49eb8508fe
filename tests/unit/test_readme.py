"""What README.md says is so: its settings table, its routes, and every Python snippet."""

import re
import sys
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from quart import Quart

from service import create_app
from service.parts import parts_of
from service.settings import PREFIX, Settings
from tests.support.process import ROOT

README = (ROOT / "README.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def snippet(path: str) -> str:
    """The Python snippet whose first line names this file."""
    (found,) = [code for code in snippets("python") if code.startswith(f"# {path}\n")]
    return str(found)


def run(code: str, name: str) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    exec(compile(code, name, "exec"), vars(module))  # noqa: S102  it is our own README
    return module


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    run(snippet("service/tasks/mail.py"), "service.tasks.mail")
    app = create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_TASK_MODULES": "service.tasks.mail"})
    async with app.test_app():
        yield app


def settings_table() -> str:
    """The settings as a Markdown table, as README.md has it."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for setting in fields(Settings):
        if not setting.metadata:
            continue
        default, unit = setting.default, setting.metadata["unit"]
        shown = ",".join(default) if isinstance(default, tuple) else f"{default}"
        value = f"`{shown}` {unit}".strip() if shown else "(none)"
        rows.append(
            f"| `{PREFIX}{setting.name.upper()}` | {value} | {setting.metadata['meaning']} |"
        )
    return "\n".join(rows)


def test_the_settings_table_is_that_of_the_code() -> None:
    """A row that is missing is shown as it is to be added."""
    assert [row for row in settings_table().splitlines() if row not in README] == []
    assert all(PREFIX + setting.name.upper() in README for setting in fields(Settings))


async def test_the_task_snippet_is_a_task(app: Quart) -> None:
    """And can be called directly, and enqueued."""
    assert "mail.send_welcome" in parts_of(app).tasks
    send_welcome = sys.modules["service.tasks.mail"].send_welcome
    assert await send_welcome("ada@example.org") == "sent to ada@example.org"


async def test_the_route_snippet_enqueues_that_task(app: Quart) -> None:
    """It is what most users will write first; who has written it has the same names already."""
    route = run(snippet("service/web/tasks/signup.py"), "readme_signup")
    app.register_blueprint(route.signup, name="readme_signup", url_prefix="/readme")
    response = await app.test_client().post("/readme/signup/ada@example.org")
    assert response.status_code == 202
    body: dict[str, Any] = await response.get_json()
    result = await app.test_client().get(body["result_url"])
    assert (await result.get_json())["task"] == "mail.send_welcome"


def test_the_setting_snippet_declares_a_setting() -> None:
    """One field is all that it takes."""
    code = snippet("service/settings.py")
    body = "\n".join(f"    {line}" for line in code.splitlines())
    module = run(
        f"from service.settings import *\nfrom service.settings import _setting, _positive_int\n"
        f"class Some:\n{body}\n",
        "readme_setting",
    )
    assert module.Some.greeting_size.metadata["unit"] == "letters"


def test_every_python_snippet_is_run_here() -> None:
    """One that is not would be wrong before long; tests/system/test_readme_how_to.py has one."""
    names = {code.splitlines()[0].removeprefix("# service/") for code in snippets("python")}
    assert names == {"tasks/mail.py", "web/tasks/signup.py", "web/__init__.py", "settings.py"}


def test_every_route_is_in_the_contract(app: Quart) -> None:
    """And no other."""
    told = set(re.findall(r"^\| `([A-Z]+) (/[^ `?]*)", README, re.MULTILINE))
    routes = {
        (method, re.sub(r"<\w+:", "<", str(rule)).replace("<job_id>", "<id>"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in {"HEAD", "OPTIONS"} and not rule.endpoint.endswith("static")
    }
    assert told == routes


def test_the_two_commands_are_there() -> None:
    """They are all that a newcomer needs; .ci/run runs the second."""
    commands = [line.strip() for block in snippets("sh") for line in block.splitlines()]
    assert "pip install uv && uv run service dev" in commands
    assert "pip install uv && uv run pytest" in commands
    assert "pip install --quiet uv && uv run pytest" in Path(ROOT / ".ci/run").read_text()
