"""Finds the tasks of an app: in blueprints, and in modules that have some."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

import celery
from celery.local import Proxy

from service.errors import ConfigurationError
from service.jobs.blueprint import TaskBlueprint, TaskRegistry

# Where modules with tasks are named.
_ARGUMENT: Final = "`tasks=`"
_SETTING: Final = "SERVICE_TASK_MODULES"


def find_tasks(tasks: Iterable[str | TaskBlueprint], *, modules: Iterable[str]) -> TaskRegistry:
    """Register blueprints: those of `tasks`, and of the modules that it and the setting name.

    A package stands for all modules in it. Raises ConfigurationError for a module that cannot be
    found, has no blueprint, or ends the process, and DuplicateTaskError for a name that is taken.
    An error that a module raises is not caught.
    """
    registry = TaskRegistry()
    for each in tasks:
        if not isinstance(each, str | TaskBlueprint):
            raise ConfigurationError(
                f"{_ARGUMENT} takes task blueprints and names of modules; {each!r} is neither."
            )
        blueprints = [each] if isinstance(each, TaskBlueprint) else _found(each, _ARGUMENT)
        for blueprint in blueprints:
            registry.add(blueprint)
    for name in modules:
        for blueprint in _found(name, _SETTING):
            registry.add(blueprint)
    return registry


def _found(name: str, where: str) -> list[TaskBlueprint]:
    """The blueprints of the module or package that is named there."""
    module = _import(name, where)
    inner = pkgutil.iter_modules(getattr(module, "__path__", ()))
    modules = [module, *(_import(f"{name}.{each.name}", where) for each in inner)]
    found = [value for each in modules for value in vars(each).values()]
    blueprints = [value for value in found if isinstance(value, TaskBlueprint)]
    is_room = where == _ARGUMENT and hasattr(module, "__path__")  # which may be empty at first
    if not blueprints and not is_room and not any(map(_is_of_celery, found)):
        raise ConfigurationError(
            f"{where} names {name!r}, which has neither a TaskBlueprint"
            " nor a task of Celery's in it."
        )
    return blueprints


def _is_of_celery(value: Any) -> bool:
    """Whether the value is a task that was declared with Celery's own decorators.

    It may be a Proxy, which is not opened: that would make the task.
    """
    is_known = value is celery.current_app or value is celery.current_task
    return issubclass(type(value), (Proxy, celery.Task)) and not is_known


def _import(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ConfigurationError(
            f"{where} names {name!r}, which cannot be found."
            " It has to be importable where the web and the worker are started."
        ) from error
    except SystemExit as error:  # which would end worker and web in silence, perhaps with 0
        raise ConfigurationError(
            f"{where} names {name!r}, which ends the process when it is imported: {error!r}."
            " What it does as a script belongs under `if __name__ == '__main__'`."
        ) from error
