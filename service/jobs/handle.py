"""A declared task as other code uses it: the plain function, which can also be enqueued."""

from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar, Unpack

from quart import current_app, has_app_context

from service.errors import NoAppContextError, NoJobsError
from service.jobs.arguments import Arguments, SendOptions, send_options
from service.jobs.job import Job

P = ParamSpec("P")
R = TypeVar("R")  # what a direct call returns
V = TypeVar("V")  # the type of a job's result: R, or what awaiting R gives

# Which callers may start a task over HTTP that is not `public`: those with this role, or those for
# whom the function is true. It gets a Caller, a class above this room, or None for an unknown one.
Rule: TypeAlias = str | Callable[[Any], bool] | None

EXTENSION: Final = "service"  # the key of `app.extensions` under which the app's Parts are


class TaskHandle(Generic[P, R, V]):
    """A recorded task: called directly it is the plain function.

    `enqueue` is for async code; `delay`, `apply_async`, `s` and `si` are Celery's own, and
    synchronous. All but the direct call of an unbound function need an app, which decides which
    broker is used: the current one, or the only one with the task that serves in this process.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., R],
        options: Mapping[str, Any],
        *,
        public: bool = False,
        allow: Rule = None,
    ) -> None:
        self.name = name
        self.function = function
        self.celery_options = dict(options)
        self.public = public
        self.allow = allow
        self.serving: list[Any] = []  # the Parts of each app with the task that serves here
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
        options = self.celery_options
        return Arguments(
            self.name,
            self.function,
            bound=options["bind"],
            pydantic=options.get("pydantic") is True,
            ignore_result=bool(options.get("ignore_result")),
        )

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
        """The current app's Parts, a class above this room.

        Where no app is current, as in a host of another kind, those of the one app with the task
        that serves in this process. Raises NoAppContextError and NoJobsError.
        """
        if not has_app_context():
            if len(self.serving) == 1:
                return self.serving[0]
            raise NoAppContextError(self.name, apps=len(self.serving))
        parts = current_app.extensions.get(EXTENSION)
        if parts is None:
            raise NoJobsError(current_app.name)
        return parts


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
