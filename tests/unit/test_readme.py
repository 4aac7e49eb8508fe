"""What README.md and changing.md say is so: snippets, commands, links, and that README is short."""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from quart import Quart

from service import create_app
from service.parts import parts_of
from tests.support.process import ROOT

README = (ROOT / "README.md").read_text()
GUIDES = ROOT / "service/docs"
CHANGING = (GUIDES / "changing.md").read_text()


def snippets(language: str) -> list[str]:
    """Those of changing.md."""
    return re.findall(rf"```{language}\n(.*?)```", CHANGING, re.DOTALL)


def snippet(path: str) -> str:
    """The Python snippet of changing.md whose first line names this file."""
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
    code = snippet("service/settings/settings.py")
    body = "\n".join(f"    {line}" for line in code.splitlines())
    module = run(
        f"from service.settings.declaring import positive_int, setting\nclass Some:\n{body}\n",
        "readme_setting",
    )
    assert module.Some.greeting_size.metadata["unit"] == "letters"


def test_every_python_snippet_is_run_here() -> None:
    """One that is not would be wrong before long; tests/system/test_changing.py has one."""
    names = {code.splitlines()[0].removeprefix("# service/") for code in snippets("python")}
    assert names == {"tasks/mail.py", "web/tasks/signup.py", "app.py", "settings/settings.py"}


def test_the_two_commands_are_there() -> None:
    """They are all that one needs who changes the project; .ci/run runs the second."""
    commands = [line.strip() for block in snippets("sh") for line in block.splitlines()]
    assert "pip install uv && uv run service dev" in commands
    assert "pip install uv && uv run pytest" in commands
    assert "pip install --quiet uv && uv run pytest" in Path(ROOT / ".ci/run").read_text()


def test_readme_is_short_and_leads_to_every_guide() -> None:
    """What is to be said more fully belongs into a guide."""
    assert len(README.splitlines()) < 200
    unlinked = {
        path.name for path in GUIDES.glob("*.md") if f"(service/docs/{path.name})" not in README
    }
    assert unlinked == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES.glob("*.md")], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    text = page.read_text()
    broken = []
    for link in re.findall(r'(?:\]\(|src="|href=")([^)"\s]+)', text):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link) or "{" in link or path.startswith("/"):
            continue
        target = (page.parent / path) if path else page
        headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
        if not target.exists() or (anchor and anchor not in anchors):
            broken.append(link)
    assert broken == []


def test_every_promise_is_held_by_a_test() -> None:
    """A name that nobody has any more would be an empty promise."""
    promises = (GUIDES / "promises.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", promises)
    assert len(named) > 15
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"def {name}\(", (ROOT / "tests" / path).read_text())
    ]
    assert missing == []


def test_every_benchmark_is_a_command_of_speed() -> None:
    """Figures come with the command that makes them."""
    told = set(re.findall(r"tests\.benchmarks\.(\w+)", (GUIDES / "speed.md").read_text()))
    there = {path.stem for path in (ROOT / "tests/benchmarks").glob("bench_*.py")}
    assert told == there | {"before_after"}
