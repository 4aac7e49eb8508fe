"""Each room has a floor plan, fits on a screen, and imports as its contract says."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ROOT
from tests.support.source import folders, modules

_ENTRIES: Final = 12
_LINES: Final = 260
_PLAN: Final = 8
# Where imports stand in functions, and why.
_ON_DEMAND: Final = {
    "service/testing/plugin.py": "pytest imports it in every run, and what it needs takes a second",
}


def _in_service(path: str | Path) -> str:
    inner = str((ROOT / path).relative_to(ROOT / "service"))
    return "" if inner == "." else inner


def test_every_room_has_a_floor_plan() -> None:
    """One sentence of purpose, then what each module does: where a newcomer begins to read."""
    without = set()
    for module in modules("service"):
        if module.path.endswith("/__init__.py"):
            lines = (ast.get_docstring(module.tree) or "").splitlines()
            has_purpose = bool(lines) and lines[0].endswith(".") and lines[1:2] in ([], [""])
            if not has_purpose or len(lines) < _PLAN:
                without.add(_in_service(Path(module.path).parent))
    assert without == set()


def test_no_folder_shows_more_than_an_eye_takes_in() -> None:
    """A room that has grown past this holds two. (The root holds the rooms.)

    The guides are a list that README.md has in its order: they stay in one folder, by their names.
    """
    crowded = {}
    for folder in folders("service")[1:]:
        if folder == ROOT / "service/docs":
            continue
        shown = [p for p in folder.iterdir() if p.name not in {"__init__.py", "__pycache__"}]
        if len(shown) > _ENTRIES:
            crowded[_in_service(folder)] = len(shown)
    assert crowded == {}


def test_no_module_is_longer_than_one_sitting() -> None:
    """One that has grown past this has taken on a second job."""
    lengths = {_in_service(m.path): len(m.text.splitlines()) for m in modules("service")}
    assert {path: length for path, length in lengths.items() if length > _LINES} == {}


def test_nothing_imports_the_root_of_the_package() -> None:
    """The root imports every room: a room that imports it depends on the order of its lines."""
    found: dict[str, list[str]] = {}
    for module in modules("service"):
        for name, path in module.imported.items():
            is_root = path == "service" or path.rpartition(".")[0] == "service"
            is_room = (ROOT / f"{path.replace('.', '/')}.py").exists() or (
                (ROOT / path.replace(".", "/") / "__init__.py").exists() and path != "service"
            )
            if is_root and not is_room:
                found.setdefault(_in_service(module.path), []).append(name)
    assert found == {}


def test_no_cycle_is_dodged() -> None:
    """Neither by TYPE_CHECKING nor by an import in a function: contracts would not see the one."""
    dodges = []
    for module in modules("service"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name | ast.Attribute | ast.alias):
                names = {getattr(node, field, None) for field in ("id", "attr", "name")}
                if "TYPE_CHECKING" in names:
                    dodges.append(f"{module.path}: TYPE_CHECKING")
            elif module.path in _ON_DEMAND:
                continue
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = (
                    one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)
                )
                dodges += [module.at(one) for one in inner]
    assert dodges == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("helpers.py", '"""A drawer."""\n', "helpers"),
        ("results/helpers.py", "from service.worker import backend\n", "service.results.helpers"),
    ],
    ids=["in no floor", "upwards"],
)
def test_a_stray_module_breaks_the_contracts(
    tmp_path: Path, path: str, text: str, complaint: str
) -> None:
    """They are exhaustive, so that every module has to be given its place."""
    shutil.copytree(
        ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "service" / path).write_text(text)
    run = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert complaint in run.stdout + run.stderr
