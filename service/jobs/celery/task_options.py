"""Refuses misspelt options of tasks, which Celery keeps as attributes that nobody reads."""

from typing import Any, Final

from service.errors import ConfigurationError
from service.jobs.handle import TaskHandle
from service.jobs.registry import declaration_of

# What Celery and this service read of a task that Celery's Task has no attribute for.
_READ: Final = frozenset(
    {
        *("base", "filter", "show_arguments"),
        *("pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"),
        *("autoretry_for", "dont_autoretry_for", "override_max_retries"),
        *("retry_kwargs", "retry_backoff", "retry_backoff_max", "retry_jitter"),
        *("queue", "exchange", "exchange_type", "routing_key", "delivery_mode"),
        *("compression", "immediate", "mandatory"),
    }
)


def check_options(handle: TaskHandle[..., Any, Any], base: type) -> None:
    """Raise ConfigurationError for an option that neither Celery nor the task's base class has."""
    problems = [
        f"{name!r} is not an option of a task, as {declaration_of(handle)} has it."
        " For an attribute of your own give the task a `base` class that has it."
        for name in handle.celery_options
        if name not in _READ and not hasattr(base, name)
    ]
    if problems:
        raise ConfigurationError(problems)
