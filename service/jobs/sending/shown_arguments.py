"""The arguments of a job by name, of tasks declared with `show_arguments=True`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LONGEST: Final = 4_000  # characters of JSON; what is longer is not worth showing


def shown_arguments(
    task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What anybody who knows the job's id may see of its arguments; None for nothing.

    `task` is Celery's object; one that was not declared on a TaskBlueprint shows nothing.
    """
    if not getattr(task, "show_arguments", False):
        return None
    handle = task.app.handles.get(task.name)
    if handle is None:
        return None
    # In the order of the signature, in which those that can be given by position come first.
    parameters = handle.arguments.parameters
    shown = {each.name: each.default for each in parameters}
    shown.update(zip(shown, args or (), strict=False))
    shown.update(kwargs or {})
    try:
        size = len(json.dumps(shown, allow_nan=False))
    except (TypeError, ValueError, RecursionError):  # what only Kombu's own JSON can carry
        return None
    return shown if size <= _LONGEST else None
