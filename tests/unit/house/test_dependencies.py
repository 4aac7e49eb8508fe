"""What the package imports is what it asks for."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from tests.support.process import ROOT


def imported() -> Iterator[str]:
    """The top-level package of each import in the package."""
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield str(node.module).partition(".")[0]
            elif isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)


def normal(requirement: str) -> str:
    """The name in a requirement, in the one form that all its spellings have."""
    return re.sub("[_.]", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def test_every_package_that_is_imported_is_declared() -> None:
    """One that only comes with another may go with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(requirement) for requirement in project["dependencies"]}
    providers = packages_distributions()
    names = set(imported()) - sys.stdlib_module_names - {"service"}
    assert [n for n in names if declared.isdisjoint(map(normal, providers[n]))] == []
