"""The arguments of a job by name, for tasks declared with `show_arguments=True`."""

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

_LONGEST: Final = 4_000  # characters of JSON; what is longer is not worth showing


def shown_arguments(
    task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What anybody who knows the job's id may see of its arguments; None for nothing."""
    if not getattr(task, "show_arguments", False):
        return None
    try:
        bound = _signature(task).bind(*(args or ()), **(kwargs or {}))
        bound.apply_defaults()
        shown = json.loads(json.dumps(bound.arguments))
    except (TypeError, ValueError, RecursionError):
        return None
    return shown if len(json.dumps(shown)) <= _LONGEST else None


@lru_cache(maxsize=1000)
def _signature(task: Any) -> inspect.Signature:
    # The body as its author wrote it: without `self`, which `bind=True` adds.
    return inspect.signature(task.run)
