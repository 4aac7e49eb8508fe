"""What service/docs/changing.md says of adding things, done to a copy of the project."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from service.settings import PREFIX
from tests.support.process import ROOT, Process
from tests.unit.test_readme import snippet

_ROUTE = "`POST /signup/<address>`"
_SETTING = f"`{PREFIX}GREETING_SIZE`"
_SIGN_UP = """
import asyncio
from service import create_app

async def sign_up() -> None:
    app = create_app()
    async with app.test_app():
        print("status", (await app.test_client().post("/signup/ada@example.org")).status_code)

asyncio.run(sign_up())
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project with the task, the route and the setting that the guide adds."""
    folder = tmp_path / "copy"
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("service", "tests", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path in ("service/tasks/mail.py", "service/web/tasks/signup.py"):
        (folder / path).write_text(snippet(path))
    imported, registered = re.findall(r"^\w.*", snippet("service/app.py"), re.MULTILINE)
    _insert(folder / "service/app.py", before="\n_DEFAULTS", text=f"{imported}\n")
    _insert(folder / "service/app.py", before="    return app", text=f"    {registered}\n")
    field = snippet("service/settings/settings.py").splitlines()[1]
    settings = folder / "service/settings/settings.py"
    _insert(settings, before="    celery: Mapping", text=f"    {field}\n")
    return folder


def _insert(path: Path, *, before: str, text: str) -> None:
    whole = path.read_text()
    assert whole.count(before) == 1
    path.write_text(whole.replace(before, text + before))


def _process(copy: Path, *arguments: str, **env: str) -> Process:
    return Process([sys.executable, *arguments], cwd=copy, env={"PYTHONPATH": str(copy), **env})


def test_the_route_that_was_added_serves(copy: Path, redis_url: str) -> None:
    """It imports a task, and the package imports it."""
    with _process(copy, "-c", _SIGN_UP, SERVICE_REDIS_URL=redis_url) as process:
        assert process.wait() == 0
        assert "status 202" in process.output


def test_the_import_contracts_hold(copy: Path) -> None:
    """The places that the guide names for the new modules are in rooms that may have them."""
    lint = str(Path(sys.executable).with_name("lint-imports"))
    with _process(copy, lint, "--no-cache") as process:
        assert process.wait(60) == 0, process.output


def test_the_tests_pass_once_the_tables_have_the_new_rows(copy: Path) -> None:
    """Until then they show the rows that are missing."""
    command = ("-m", "pytest", "-q", "-n0", "tests/unit/test_guide_tables.py")
    with _process(copy, *command) as process:
        assert process.wait(60) == 1
        assert f"| {_SETTING} | `12` letters |" in process.output
        assert "'/signup/<address>'" in process.output
        assert "2 failed" in process.output
    row = f"| {_SETTING} | `12` letters | How long a greeting may be. |\n"
    guides = copy / "service/docs"
    _insert(guides / "settings.md", before=f"| `{PREFIX}CELERY__<", text=row)
    _insert(guides / "http.md", before="| `GET /tasks` ", text=f"| {_ROUTE} | Welcomes. |\n")
    with _process(copy, *command) as process:
        assert process.wait(60) == 0
