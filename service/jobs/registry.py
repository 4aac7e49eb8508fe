"""Finds the tasks of an app, and knows them by name until its Celery app is built from them."""

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from service.errors import ConfigurationError, DuplicateTaskError
from service.jobs.blueprint import TaskBlueprint
from service.jobs.handle import AnyHandle

# Options of a task that Celery or this service reads, and that Celery's Task does not declare.
_OPTIONS: Final = frozenset(
    {
        *("base", "filter", "show_arguments"),
        *("pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"),
        *("autoretry_for", "dont_autoretry_for", "override_max_retries"),
        *("retry_kwargs", "retry_backoff", "retry_backoff_max", "retry_jitter"),
        *("queue", "exchange", "exchange_type", "routing_key", "delivery_mode"),
        *("compression", "immediate", "mandatory"),
    }
)


class TaskRegistry(dict[str, AnyHandle]):
    """The handles that are registered on an app, by name; `add` is the one way to put them in."""

    is_closed = False  # set when the Celery app has been built from these

    def add(self, blueprint: TaskBlueprint) -> None:
        """Add the tasks of a blueprint; those that are known already stay as they are.

        Raises DuplicateTaskError, and ConfigurationError when it is too late.
        """
        if self.is_closed and any(each.name not in self for each in blueprint.handles):
            raise ConfigurationError(
                f"{blueprint!r} is registered too late: the app's Celery app has been built from"
                " the tasks known then. Register it when the app is made, or name its module in"
                " SERVICE_TASK_MODULES."
            )
        for handle in blueprint.handles:
            taken = self.setdefault(handle.name, handle)
            if taken is not handle:
                raise DuplicateTaskError(handle.name, declaration_of(taken), declaration_of(handle))


def declaration_of(handle: AnyHandle) -> str:
    """Where a task is declared, with file and line: two of one module may have one name."""
    function = inspect.unwrap(handle.function)
    name = f"{function.__module__}.{function.__qualname__}"
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def check_options(handle: AnyHandle, base: type) -> None:
    """Raise ConfigurationError for an option that neither Celery nor the task's base class has.

    Celery would keep it as an attribute that nothing reads.
    """
    problems = [
        f"{name!r} is not an option of a task, as {declaration_of(handle)} has it."
        " For an attribute of your own give the task a `base` class that has it."
        for name in handle.celery_options
        if name not in _OPTIONS and not hasattr(base, name)
    ]
    if problems:
        raise ConfigurationError(*problems)


def find_tasks(*, package: str, modules: Sequence[str]) -> TaskRegistry:
    """Register every blueprint in the modules of `package` and in `modules`.

    Raises ConfigurationError for one of `modules` that cannot be found or has no blueprint, and
    DuplicateTaskError for a name that is taken. An error that a module raises is not caught.
    """
    tasks = TaskRegistry()
    root = importlib.import_module(package)
    for found in pkgutil.iter_modules(root.__path__):
        for blueprint in _blueprints(importlib.import_module(f"{package}.{found.name}")):
            tasks.add(blueprint)
    for name in modules:
        blueprints = _blueprints(_import(name))
        if not blueprints:
            raise ConfigurationError(
                f"SERVICE_TASK_MODULES names {name!r}, which has no TaskBlueprint in it."
            )
        for blueprint in blueprints:
            tasks.add(blueprint)
    return tasks


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ConfigurationError(
            f"SERVICE_TASK_MODULES names {name!r}, which cannot be found."
            " It has to be importable where the web and the worker are started."
        ) from error


def _blueprints(module: ModuleType) -> list[TaskBlueprint]:
    return [value for value in vars(module).values() if isinstance(value, TaskBlueprint)]
