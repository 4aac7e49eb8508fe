"""A declared task as other code uses it: the plain function, which can also be enqueued."""

from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar, Unpack

from quart import current_app, has_app_context

from service.errors import NoAppContextError
from service.jobs.arguments import Arguments, SendOptions, send_options
from service.jobs.job import Job

P = ParamSpec("P")
R = TypeVar("R")  # what a direct call returns
V = TypeVar("V")  # the type of a job's result: R, or what awaiting R gives

EXTENSION: Final = "service"  # the key of `app.extensions` under which the app's Parts are


class TaskHandle(Generic[P, R, V]):
    """A recorded task: called directly it is the plain function.

    `enqueue` is for async code; `delay`, `apply_async`, `s` and `si` are Celery's own, and
    synchronous. All but the direct call of an unbound function need an app context: the current
    app decides which broker is used.
    """

    def __init__(
        self, name: str, function: Callable[..., R], options: Mapping[str, Any], *, public: bool
    ) -> None:
        self.name = name
        self.function = function
        self.celery_options = dict(options)
        self.public = public
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"<TaskHandle {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function, here and now."""
        if self.celery_options["bind"]:
            return self.function(self.celery_task, *args, **kwargs)
        return self.function(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[V]:
        """Hand a job to the broker without blocking the event loop.

        Raises BrokerUnavailableError, and InvalidArgumentsError where the arguments do not fit
        the function's signature and annotations.
        """
        job: Job[V] = await self.parts.enqueuer.enqueue(self.name, args, kwargs)
        return job

    def options(self, **options: Unpack[SendOptions]) -> "TaskWithOptions[P, V]":
        """The same task, sent with options: `await handle.options(countdown=5).enqueue(1)`.

        SendOptions says what each means. Raises TypeError, ValueError and InvalidJobIdError.
        """
        return TaskWithOptions(self, send_options(**options))

    @cached_property
    def arguments(self) -> Arguments:
        """What the task takes and returns."""
        return Arguments(self.name, self.function, bound=self.celery_options["bind"])

    @property
    def celery_task(self) -> Any:
        """The current app's own Celery task object."""
        return self.parts.celery.get().task_named(self.name)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Celery's `delay`: synchronous."""
        return self.celery_task.delay(*args, **kwargs)

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Celery's `apply_async`: synchronous."""
        return self.celery_task.apply_async(*args, **options)

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's signature of a call, for chains, groups and chords."""
        return self.celery_task.s(*args, **kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's immutable signature of a call."""
        return self.celery_task.si(*args, **kwargs)

    @property
    def parts(self) -> Any:
        """The current app's Parts, a class above this room. Raises NoAppContextError."""
        if not has_app_context():
            raise NoAppContextError(self.name)
        return current_app.extensions[EXTENSION]


AnyHandle: TypeAlias = TaskHandle[..., Any, Any]


class TaskWithOptions(Generic[P, V]):
    """A task with options of its own, ready to be enqueued any number of times."""

    def __init__(self, handle: TaskHandle[P, Any, V], options: SendOptions) -> None:
        self._handle = handle
        self._options = options

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[V]:
        """Hand a job to the broker with these options, as `TaskHandle.enqueue` does."""
        handle = self._handle
        enqueuer = handle.parts.enqueuer
        job: Job[V] = await enqueuer.enqueue(handle.name, args, kwargs, self._options)
        return job
