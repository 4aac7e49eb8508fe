"""Reads the project's own source, for tests of rules that no linter knows."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.process import ROOT

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file; `path` begins at the repository's root."""

    path: str
    text: str
    tree: ast.Module

    def at(self, node: ast.stmt | ast.expr) -> str:
        """The place of a node, as an editor opens it."""
        return f"{self.path}:{node.lineno}"

    @property
    def imported(self) -> dict[str, str]:
        """The dotted path of each name that an import binds, anywhere in the module."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    found[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return found

    @property
    def definitions(self) -> Iterator[Definition]:
        """The classes and functions of the module itself."""
        for node in self.tree.body:
            if isinstance(node, Definition):
                yield node

    @property
    def written(self) -> Iterator[tuple[ast.expr, str]]:
        """Each attribute that is set or deleted: the owner's expression and the attribute's name.

        Where `setattr` is given no literal name, the name is "".
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                yield node.value, node.attr
            elif isinstance(node, ast.Call) and len(node.args) > 1:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else None
                called = node.func.id if isinstance(node.func, ast.Name) else called
                if called in {"setattr", "delattr", "__setattr__"}:
                    name = node.args[1]
                    literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
                    yield node.args[0], str(name.value) if literal else ""  # type: ignore[attr-defined]  # mypy does not narrow


@cache
def modules(folder: str) -> tuple[Module, ...]:
    """Every module below a folder of the repository."""
    found = sorted((ROOT / folder).rglob("*.py"))
    texts = [(str(path.relative_to(ROOT)), path.read_text()) for path in found]
    return tuple(Module(path, text, ast.parse(text)) for path, text in texts)


def folders(folder: str) -> list[Path]:
    """A folder of the repository and all below it."""
    every = {ROOT / folder, *(path for path in (ROOT / folder).rglob("*") if path.is_dir())}
    return sorted(path for path in every if path.name != "__pycache__")


def root_name(node: ast.expr) -> str | None:
    """The name with which `name.some.attribute` begins, also where it is called or subscripted."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
