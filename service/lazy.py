"""Public names of a package that are imported when they are first used (PEP 562).

So whoever imports the package, or one module of it, does not wait for all that it has.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def attach(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """What the package has as `__getattr__`, `__dir__` and `__all__`.

    `names` are the public names by the modules that they are in. Type checkers read the same from
    the `__init__.pyi` of the package.
    """
    places = {name: module for module, group in names.items() for name in group}
    every = sorted(places)

    def get(name: str) -> object:
        this = sys.modules[package]
        if name not in places:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=this)
        value = getattr(import_module(places[name]), name)
        setattr(this, name, value)  # it is not asked for again
        return value

    return get, every.copy, every
