"""Knows the tasks of one app, by name, until its Celery app is built from them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.errors import ConfigurationError, DuplicateTaskError
from service.jobs.handle import TaskHandle


class TaskRegistry(Mapping[str, TaskHandle[..., Any, Any]]):
    """The handles that are registered on an app."""

    def __init__(self) -> None:
        self._handles: dict[str, TaskHandle[..., Any, Any]] = {}
        self._is_closed = False

    def __getitem__(self, name: str) -> TaskHandle[..., Any, Any]:
        return self._handles[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)

    def close(self) -> None:
        """Take no more tasks: the Celery app has been built from these."""
        self._is_closed = True

    def add(self, handles: Sequence[TaskHandle[..., Any, Any]], owner: object) -> None:
        """Add the tasks of a blueprint, `owner`; those that are known already stay as they are.

        Raises DuplicateTaskError, and ConfigurationError when it is too late.
        """
        if self._is_closed and any(handle.name not in self._handles for handle in handles):
            raise ConfigurationError(
                [
                    f"{owner!r} is registered too late: the app's Celery app has been built from"
                    " the tasks known then. Register it when the app is made, or name its module in"
                    " SERVICE_TASK_MODULES."
                ]
            )
        for handle in handles:
            taken = self._handles.setdefault(handle.name, handle)
            if taken is not handle:
                raise DuplicateTaskError(handle.name, declaration_of(taken), declaration_of(handle))


def declaration_of(handle: TaskHandle[..., Any, Any]) -> str:
    """Where a task is declared; two of one module may have one name."""
    function = inspect.unwrap(handle.function)
    name = f"{function.__module__}.{function.__qualname__}"
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name
