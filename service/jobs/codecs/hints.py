"""Reads the annotations of a function, as far as their names are there."""

import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import NoneType, SimpleNamespace
from typing import Any


def hints_of(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The annotations by name, `return` for the result; and why others cannot be read.

    A name may be defined further down in its module, or exist for type checkers only.
    """
    function = inspect.unwrap(function)
    names = getattr(function, "__globals__", None)
    hints: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        one: Any = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(one, globalns=names, include_extras=True)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            unread[name] = str(error)
    if typing.get_origin(hints.get("return")) in {Coroutine, Awaitable}:
        hints["return"] = typing.get_args(hints["return"])[-1]
    return hints, unread


def is_model(annotation: Any) -> bool:
    """Whether it is a model of pydantic's, or an optional one: what Celery's `pydantic=True` takes.

    Asked without pydantic, which may not be installed.
    """
    parts = [part for part in typing.get_args(annotation) or [annotation] if part is not NoneType]
    return len(parts) == 1 and isinstance(parts[0], type) and hasattr(parts[0], "model_validate")
