"""The public names of a package are imported when they are first used, and nobody notices."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.process import ROOT

STUBS = sorted((ROOT / "service").rglob("__init__.pyi"))


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_type_checkers_see_what_there_is(stub: Path) -> None:
    """They read the stub in place of the module: each name is from where the stub says."""
    package = import_module(".".join(stub.parent.relative_to(ROOT).parts))
    *imports, every = ast.parse(stub.read_text()).body
    found = {}
    for node in imports:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            found[alias.name] = getattr(import_module(str(node.module)), alias.name)
    assert isinstance(every, ast.Assign)
    assert ast.literal_eval(every.value) == package.__all__ == dir(package) == sorted(found)
    assert {name: getattr(package, name) for name in found} == found


def test_importing_the_package_imports_nothing_else() -> None:
    """`service health` and every run of pytest do; what the package is made of takes a second."""
    run = _run(
        "import sys; before = set(sys.modules); import service, service.testing; import json\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    imported = set(ast.literal_eval(run.stdout))
    others = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others == {"service", "service.lazy", "service.testing"}


@pytest.mark.parametrize(
    ("program", "error"),
    [
        (
            "from service import TaskBluprint",
            "ImportError: cannot import name 'TaskBluprint' from 'service'",
        ),
        (
            "import service; service.TaskBluprint",
            "AttributeError: module 'service' has no attribute 'TaskBluprint'",
        ),
    ],
)
def test_a_wrong_name_is_told_as_of_any_module(program: str, error: str) -> None:
    """With Python's own suggestion; of what is imported from a module it has one since 3.12."""
    told = _run(program).stderr.splitlines()[-1]
    assert told.startswith(error)
    if error.startswith("AttributeError") or sys.version_info >= (3, 12):
        assert told.endswith("Did you mean: 'TaskBlueprint'?")
