"""What the package imports is what it asks for."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.process import ROOT

# In which version a known hole of what we stand on was closed. Add a line when one is published:
# pip-audit has no use here, for it asks a server on the internet.
HOLES: Final = [
    ("h11", "0.16.0", "CVE-2025-43859: a lenient reading of chunks lets requests be smuggled in"),
    ("h2", "4.3.0", "CVE-2025-57804: line breaks in headers, which split requests"),
    ("jinja2", "3.1.6", "CVE-2025-27516: a way out of the sandbox"),
    ("werkzeug", "3.0.3", "CVE-2024-34069: other sites run code in the debugger"),
    ("werkzeug", "3.0.6", "CVE-2024-49767: forms take memory without limit"),
    ("werkzeug", "3.1.6", "CVE-2025-66221 and its two sequels: device names of Windows as files"),
]


# The modules that import what only an extra installs: others load them by name, if at all.
OF_EXTRAS: Final = {"service/metrics/exposition.py": "metrics"}
# What pytest alone imports, and what of its world that imports.
OF_PYTEST: Final = {"service/testing/plugin.py": {"pytest", "pytest_asyncio"}}


def imported(*, of_extra: str = "") -> Iterator[str]:
    """The top-level package of each import in the package, but for extras or of one extra."""
    for path in (ROOT / "service").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if OF_EXTRAS.get(name, "") != of_extra:
            continue
        found = set[str]()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
        yield from found - OF_PYTEST.get(name, set())


def normal(requirement: str) -> str:
    """The name in a requirement, in the one form that all its spellings have."""
    return re.sub("[_.]", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def test_every_package_that_is_imported_is_declared() -> None:
    """One that only comes with another may go with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(requirement) for requirement in project["dependencies"]}
    providers = packages_distributions()
    for extra in ("", *OF_EXTRAS.values()):
        of_extra = project["optional-dependencies"][extra] if extra else []
        known = declared | {normal(requirement) for requirement in of_extra}
        names = set(imported(of_extra=extra)) - sys.stdlib_module_names - {"service"}
        assert [n for n in names if known.isdisjoint(map(normal, providers[n]))] == []


@pytest.mark.parametrize(("name", "closed_in", "hole"), HOLES)
def test_no_version_with_a_known_hole_is_installed_or_asked_for(
    name: str, closed_in: str, hole: str
) -> None:
    """An installation that is as old as it may be has none either."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {normal(each): Requirement(each) for each in project["dependencies"]}
    floors = [Version(s.version) for s in asked[name].specifier if s.operator == ">="]
    assert max(floors) >= Version(closed_in), hole
    assert Version(version(name)) >= Version(closed_in), hole
