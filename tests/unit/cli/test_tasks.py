"""`service tasks` shows what is registered, and what each task takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from service import create_app, get_celery
from service.cli.main import main
from service.cli.tasks import registered

_MODULE = """
from typing import Annotated
from msgspec import Meta
from service import TaskBlueprint

tasks = TaskBlueprint("listed")


@tasks.task(bind=True, time_limit=30, soft_time_limit=20.5, rate_limit="10/m")
def export(self, rows: "list[int]", *, most: Annotated[int, Meta(ge=1)] = 5) -> None:
    '''Write the rows.'''


@tasks.task(public=True)
async def mail(to: str) -> str:
    return to
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_tasks.py").write_text(_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SERVICE_TASK_MODULES", "listed_tasks")
    monkeypatch.setenv(
        "SERVICE_CELERY__TASK_ROUTES",
        '{"listed.mail": {"queue": "letters"}, "*.export": {"queue": "slow"}}',
    )


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["tasks", *options])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("module")
def test_each_task_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Its queue by its own option or by a route; its signature as Python writes it."""
    lines = shown(capsys).splitlines()
    assert lines[0].split() == ["task", "queue", "limits", "signature"]
    names = [line.split("  ")[0] for line in lines[1:]]
    # Shared tasks of other tests in this process are tasks of every app.
    assert [name for name in names if name.startswith(("demo.", "listed."))] == [
        "demo.count_slowly",
        *("demo.fail", "demo.find_primes", "demo.my_add", "listed.export", "listed.mail"),
    ]
    export, mail = (" ".join(line.split()) for line in lines if line.startswith("listed."))
    assert export == (
        "listed.export slow 30 s, 20.5 s soft, 10/m (rows: list[int], *, most: int = 5) -> None"
    )
    assert mail == "listed.mail letters - (to: str) -> str"


@pytest.mark.usefixtures("module")
def test_programs_read_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With numbers as numbers."""
    found = {each["name"]: each for each in json.loads(shown(capsys, "--json"))}
    assert found["listed.export"] == {
        "name": "listed.export",
        "description": "Write the rows.",
        "signature": "(rows: list[int], *, most: int = 5) -> None",
        "queue": "slow",
        "public": False,
        "time_limit": 30,
        "soft_time_limit": 20.5,
        "rate_limit": "10/m",
    }
    assert found["listed.mail"]["public"] is True


def _plain(to: str, by: int = 1) -> None: ...


def _empty() -> None: ...


def _bound(self: Any, to: str) -> None: ...


def test_a_task_of_celerys_own_kind_is_shown_whole() -> None:
    """Its first parameter was left out, and without any `service tasks` failed."""
    celery: Any = get_celery(create_app({"SERVICE_REDIS_URL": "redis://127.0.0.1:1/0"}))
    celery.task(name="own.plain", shared=False)(_plain)
    celery.task(name="own.empty", shared=False)(_empty)
    celery.task(name="own.bound", shared=False, bind=True)(_bound)
    shown_as = {each.name: each.signature for each in registered(celery)}
    assert shown_as["own.plain"] == "(to: str, by: int = 1) -> None"
    assert shown_as["own.empty"] == "() -> None"
    assert shown_as["own.bound"] == "(to: str) -> None"
