"""Nothing is patched: neither other libraries by the package, nor the package by its tests."""

import ast
from typing import Final

from tests.support.source import modules, root_name

# Private attributes of other libraries' objects (no module, no class) that the package sets: each
# belongs to one object of ours or of one job, and a seam test pins it.
PRIVATE_BUT_OF_ONE_OBJECT: Final = {
    "_accepted": "billiard's ApplyResult of one job: keeps it from being flushed",
    "_decoded_cache": "Kombu's Message: what its `decode` would keep there",
    "_protected": "Celery's request: which call of the task is the tracer's",
    "_raw": "Kombu's Message: its bytes, dropped when they were decoded",
    "__bound__": "of the class of a task that a Celery app given as `Jobs(celery=…)` has made, as"
    " Celery's own `bind` sets it",
    "__call__": "of a Task class of this app, as it is bound",
    "__class__": "of the Celery app given as `Jobs(celery=…)`, and of tasks that it, or a library"
    " that shares them, has made: they become this app's",
    "__trace__": "of a task of this app, as Celery's consumer sets it",
    "__traceback__": "Python's own",
}


def test_no_module_or_class_of_another_library_is_changed() -> None:
    """It would change for the host, too, and break with the next release."""
    patches = []
    for module in modules("service"):
        foreign = {n: p for n, p in module.imported.items() if not f"{p}.".startswith("service.")}
        for owner, name in module.written:
            root = root_name(owner)
            if root in foreign and not isinstance(owner, ast.Call):
                patches.append(f"{module.at(owner)}: {foreign[root]}: {name}")
    assert patches == []


def test_what_is_private_to_another_librarys_object_is_set_only_where_a_reason_says_so() -> None:
    """A new one needs a documented seam; where there is none, a reason here and a seam test."""
    found: dict[str, list[str]] = {}
    for module in modules("service"):
        for owner, name in module.written:
            if name.startswith("_") and root_name(owner) not in {"self", "cls"}:
                found.setdefault(name, []).append(module.at(owner))
    found["__call__"] = []  # `cls.__call__ = …` is seen as our own class's
    assert {name: found[name] for name in found.keys() - PRIVATE_BUT_OF_ONE_OBJECT.keys()} == {}
    assert PRIVATE_BUT_OF_ONE_OBJECT.keys() - found.keys() == set(), "not needed any more"


def test_no_test_patches_the_package() -> None:
    """Real parts before fakes: what a test needs to change is an argument with a default."""
    patches = []
    for module in modules("tests"):
        ours = {n for n, p in module.imported.items() if f"{p}.".startswith("service.")}
        for owner, name in module.written:
            is_path = isinstance(owner, ast.Constant) and str(owner.value).startswith("service")
            is_private = name.startswith("_") and not name.endswith("__")
            is_foreign = root_name(owner) not in {"self", "cls"}
            if root_name(owner) in ours or is_path or (is_private and is_foreign):
                patches.append(f"{module.at(owner)}: {name}")
        patches += [
            f"{module.path}: {path}"
            for path in module.imported.values()
            if path.startswith(("unittest.mock", "mock"))
        ]
    assert patches == []
