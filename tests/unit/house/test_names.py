"""One name, one thing: no two classes or functions of a module share one in the whole package."""

import ast
from collections import defaultdict
from typing import Final

from tests.support.source import Definition, modules

# Names that something else dictates, and by what.
DICTATED: Final[dict[str, str]] = {}


def is_view(definition: Definition) -> bool:
    """Whether a blueprint's decorator makes it an endpoint, named within it."""
    decorators = (d.func for d in definition.decorator_list if isinstance(d, ast.Call))
    verbs = {"route", "get", "post", "put", "patch", "delete", "websocket"}
    return any(isinstance(d, ast.Attribute) and d.attr in verbs for d in decorators)


def test_no_two_classes_or_functions_have_one_name() -> None:
    """A reader who searches for a name finds the thing, and not three."""
    places = defaultdict(set)
    for module in modules("service"):
        for definition in module.definitions:
            if not is_view(definition):
                places[definition.name].add(module.path)
    shared = {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}
    assert {name: shared[name] for name in shared.keys() - DICTATED.keys()} == {}
    assert DICTATED.keys() - shared.keys() == set(), "nothing has these names any more"
