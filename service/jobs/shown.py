"""The arguments of a job by name, of tasks declared with `show_arguments=True`."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LONGEST: Final = 4_000  # characters of JSON; what is longer is not worth showing
_NAMES: Final = "_service_argument_names"  # kept on the task object


def shown_arguments(
    task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What anybody who knows the job's id may see of its arguments; None for nothing."""
    if not getattr(task, "show_arguments", False):
        return None
    names, defaults = _signature(task)
    if len(args or ()) > len(names):
        return None
    shown = {**defaults, **dict(zip(names, args or (), strict=False)), **(kwargs or {})}
    try:
        size = len(json.dumps(shown))
    except (TypeError, ValueError, RecursionError):  # what only Kombu's own JSON can carry
        return None
    return shown if size <= _LONGEST else None


def _signature(task: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of a task's arguments, and what is taken for those that are left out."""
    found: tuple[tuple[str, ...], dict[str, Any]] | None = getattr(task, _NAMES, None)
    if found is None:
        given = inspect.signature(task.run).parameters.values()
        plain = [p for p in given if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
        defaults = {p.name: p.default for p in plain if p.default is not p.empty}
        found = tuple(p.name for p in plain if p.kind is not p.KEYWORD_ONLY), defaults
        setattr(task, _NAMES, found)
    return found
