"""Records plain functions as tasks, and registers them on apps."""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from quart import Quart

from service.errors import ConfigurationError
from service.jobs.handle import EXTENSION, AnyHandle, TaskHandle

P = ParamSpec("P")
V = TypeVar("V")  # the type of a job's result


class _Decorator(Protocol):
    """`@blueprint.task(...)` without `bind=True`."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, V]]
    ) -> TaskHandle[P, Coroutine[Any, Any, V], V]: ...
    @overload
    def __call__(self, function: Callable[P, V]) -> TaskHandle[P, V, V]: ...


class _BoundDecorator(Protocol):
    """`@blueprint.task(bind=True, ...)`: the caller does not pass the task itself."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, V]]
    ) -> TaskHandle[P, Coroutine[Any, Any, V], V]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], V]) -> TaskHandle[P, V, V]: ...


class TaskBlueprint:
    """Tasks declared together; `name` begins the name of each. Knows no app and no Celery."""

    def __init__(self, name: str) -> None:
        if not name or "." in name:
            raise ConfigurationError(
                f"A task blueprint's name is one word without dots; {name!r} is not."
            )
        self.name = name
        self.handles: list[AnyHandle] = []

    def __repr__(self) -> str:
        return f"<TaskBlueprint {self.name}: {len(self.handles)} tasks>"

    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, V]], /
    ) -> TaskHandle[P, Coroutine[Any, Any, V], V]: ...
    @overload
    def task(self, function: Callable[P, V], /) -> TaskHandle[P, V, V]: ...
    @overload
    def task(
        self,
        *,
        bind: Literal[True],
        name: str = ...,
        public: bool = ...,
        show_arguments: bool = ...,
        **options: Any,
    ) -> _BoundDecorator: ...
    @overload
    def task(
        self,
        *,
        bind: Literal[False] = ...,
        name: str = ...,
        public: bool = ...,
        show_arguments: bool = ...,
        **options: Any,
    ) -> _Decorator: ...
    def task(  # type: ignore[misc]  # mypy loses `function` beside `**options`; the tests hold it
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str = "",
        public: bool = False,
        show_arguments: bool = False,
        bind: bool = False,
        **options: Any,
    ) -> Any:
        """Record a function, sync or async, as a task.

        `name` replaces `<blueprint>.<function>`; `public` lets HTTP clients start the task;
        `show_arguments` shows a job's arguments to anyone who has the job's address; `options`
        are Celery's own (`bind`, `autoretry_for`, `time_limit`, …).
        """

        def record(function: Callable[..., Any]) -> AnyHandle:
            handle: AnyHandle = TaskHandle(
                name or f"{self.name}.{function.__name__}",
                function,
                {**options, "bind": bind, "show_arguments": show_arguments},
                public=public,
            )
            self.handles.append(handle)
            return handle

        return record if function is None else record(function)

    def register(self, app: Quart) -> None:
        """Make the tasks known to an app, before its Celery app is built.

        Raises DuplicateTaskError, and ConfigurationError when it is too late.
        """
        parts = app.extensions.get(EXTENSION)
        if parts is None:
            raise ConfigurationError(
                f"{self!r} is registered on an app without jobs. Make the app by `create_app()`."
            )
        parts.tasks.add(self)
