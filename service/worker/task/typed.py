"""TypedTask, the part of the Task base that knows what a task's function is annotated to take."""

from collections.abc import Mapping
from typing import Any

from celery import Task

from service.jobs.arguments import Arguments


class TypedTask(Task):  # type: ignore[type-arg]  # celery-types: generic, Celery: not
    """Makes values of the JSON that a message has, and JSON of what a body returns."""

    abstract = True
    # What is annotated, if values differ from their JSON; None if not, as for most tasks.
    typed_arguments: Arguments | None = None
    typed_result: Arguments | None = None

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Look up what the function is annotated to take, if it was declared on a blueprint."""
        super().on_bound(app)
        handle = app.handles.get(cls.name)
        if handle is not None and not handle.arguments.arrive_as_they_are:
            cls.typed_arguments = handle.arguments
        if handle is not None and not handle.arguments.returns.is_sent_as_is:
            cls.typed_result = handle.arguments

    def decoded(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Arguments as the body takes them. Raises InvalidArgumentsError."""
        if self.typed_arguments is None:
            return args, kwargs
        return self.typed_arguments.decode(args, kwargs)

    def encoded(self, value: Any) -> Any:
        """What the body returned, as its record has it. Raises UnstorableResultError."""
        return value if self.typed_result is None else self.typed_result.encode_result(value)

    def signature(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own, which makes the parts of a canvas: their arguments are JSON then."""
        if self.typed_arguments is not None:
            args, kwargs = self.typed_arguments.encode(args, kwargs)
        return super().signature(args, kwargs, *more, **options)

    subtask = signature
