"""Finds the task blueprints: every module of a package, and modules named by setting."""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType

from service.errors import ConfigurationError
from service.jobs.blueprint import TaskBlueprint
from service.jobs.registry import TaskRegistry


def find_tasks(*, package: str, modules: Sequence[str]) -> TaskRegistry:
    """Register every blueprint in the modules of `package` and in `modules`.

    Raises ConfigurationError for one of `modules` that cannot be found or has no blueprint,
    DuplicateTaskError for a name that is taken. An error inside a module is that module's own,
    and is not caught.
    """
    tasks = TaskRegistry()
    root = importlib.import_module(package)
    for found in pkgutil.iter_modules(root.__path__):
        for blueprint in _blueprints(importlib.import_module(f"{package}.{found.name}")):
            tasks.add(blueprint.handles, blueprint)
    for name in modules:
        blueprints = [*_blueprints(_import(name))]
        if not blueprints:
            raise ConfigurationError(
                [f"SERVICE_TASK_MODULES names {name!r}, which has no TaskBlueprint in it."]
            )
        for blueprint in blueprints:
            tasks.add(blueprint.handles, blueprint)
    return tasks


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ConfigurationError(
            [
                f"SERVICE_TASK_MODULES names {name!r}, which cannot be found."
                " It has to be importable where the web and the worker are started."
            ]
        ) from error


def _blueprints(module: ModuleType) -> Iterator[TaskBlueprint]:
    seen: set[int] = set()
    for value in vars(module).values():
        if isinstance(value, TaskBlueprint) and id(value) not in seen:
            seen.add(id(value))
            yield value
