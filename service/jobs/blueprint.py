"""Records plain functions as tasks."""

import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar, overload

from quart import Quart

from service.errors import ConfigurationError, DuplicateTaskError, NoJobsError
from service.jobs.handle import EXTENSION, AnyHandle, Rule, TaskHandle

logger: Final = logging.getLogger(__name__)

P = ParamSpec("P")
V = TypeVar("V")  # the type of a job's result

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
        self.is_registered = False  # on some app, which sees no task that is declared later

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
        allow: Rule = ...,
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
        allow: Rule = ...,
        show_arguments: bool = ...,
        **options: Any,
    ) -> _Decorator: ...
    # mypy loses `function` beside `**options`; the tests hold it.
    def task(  # type: ignore[misc]  # noqa: PLR0913  each by name
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str = "",
        public: bool = False,
        allow: Rule = None,
        show_arguments: bool = False,
        bind: bool = False,
        **options: Any,
    ) -> Any:
        """Record a function, sync or async, as a task.

        `name` replaces `<blueprint>.<function>`; `public` lets anyone start the task over HTTP,
        and `allow` callers with this role, or those for whom the function of a caller is true;
        `show_arguments` shows a job's arguments to anyone who has the job's address; `options`
        are Celery's own (`bind`, `autoretry_for`, `time_limit`, …). Raises ConfigurationError for
        an annotation whose values no message can carry, for `public` beside `allow`, and when an
        app has been given the tasks of this blueprint already.
        """
        if public and allow is not None:
            raise ConfigurationError(
                f"A task of {self!r} has `public=True`, which lets anyone start it, and `allow=`."
                " Give it one of them."
            )

        def record(function: Callable[..., Any]) -> AnyHandle:
            handle: AnyHandle = TaskHandle(
                name or f"{self.name}.{function.__name__}",
                function,
                {**options, "bind": bind, "show_arguments": show_arguments},
                public=public,
                allow=allow,
            )
            if handle.arguments.unread:
                del handle.arguments  # a name may be defined further down: read when registered
            if self.is_registered:
                raise ConfigurationError(
                    f"Task {handle.name!r} is declared too late: an app has been given the tasks of"
                    f" {self!r} already. Declare it before `Jobs.init_app` is called."
                )
            self.handles.append(handle)
            return handle

        return record if function is None else record(function)

    def register(self, app: Quart) -> None:
        """Make the tasks known to an app, before its Celery app is built.

        Raises NoJobsError, DuplicateTaskError, and ConfigurationError when it is too late.
        """
        parts = app.extensions.get(EXTENSION)
        if parts is None:
            raise NoJobsError(app.name)
        parts.tasks.add(self)


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
                " `tasks=` of `init_app`, or in SERVICE_TASK_MODULES."
            )
        blueprint.is_registered = True
        for handle in blueprint.handles:
            taken = self.setdefault(handle.name, handle)
            if taken is not handle:
                raise DuplicateTaskError(handle.name, declaration_of(taken), declaration_of(handle))
            for argument, reason in handle.arguments.unread.items():
                logger.warning(
                    "The annotation of %r of task %r can't be read, so that anything is taken: %s",
                    argument,
                    handle.name,
                    reason,
                )


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
