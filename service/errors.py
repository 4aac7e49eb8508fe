"""What can go wrong, as one tree that knows nothing of HTTP.

ServiceError
├── ConfigurationError            a setting or a task declaration is wrong; told at start
│   └── DuplicateTaskError
├── CallerError                   what the caller asked for cannot be: asking again will not help
│   ├── NoAppContextError         a handle was used where no app is current
│   ├── NoJobsError               the current app has no jobs
│   ├── UnknownTaskError
│   ├── UnknownJobError
│   ├── UnknownDeadLetterError
│   ├── InvalidJobIdError
│   ├── InvalidArgumentsError     a call does not fit its task's signature
│   ├── IdempotencyConflictError  one idempotency key, two different requests
│   ├── JobFinishedError          a job that has ended cannot be cancelled
│   └── CannotPauseError          the broker knows of no pauses, or as many tasks are paused as may
├── CapacityError                 a limit is reached: asking later will help
│   ├── QueueFullError            the queue has as many jobs as it may
│   └── TooManyWaitersError       this process follows as many jobs as it may
├── UnavailableError              Redis, or another broker, refused, was silent, or is away
│   ├── BrokerUnavailableError    so a job could not be handed over
│   └── ResultsUnavailableError   so what is known of jobs could not be read or changed
├── JobEndError                   how a job ended, or why there is no end of it yet
│   ├── JobFailedError            what `await job.result()` raises for a failed job
│   ├── ResultTimeoutError
│   ├── UnexpectedResultError     a result is not what its task is annotated to return
│   ├── TaskAbortedError          a body raised what would have ended its worker
│   ├── UnstorableResultError     what a task returned can't be a result
│   └── DeadLetterError           stored as the failure of a job that was given up on
└── DevServerError                `service dev` cannot start or had to stop
"""

from typing import Any

from kombu.exceptions import EncodeError


class ServiceError(Exception):
    """Base of every error that this package raises on purpose."""


class CallerError(ServiceError):
    """What the caller asked for cannot be: asking for the same again will not help."""


class CapacityError(ServiceError):
    """A limit is reached: asking for the same later will help."""


class JobEndError(ServiceError):
    """How a job ended, or why it is not known yet how it ends."""


class UnavailableError(ServiceError):
    """Redis, or the broker where that is another server, refused, did not answer, or is away.

    `maybe_accepted`: what was asked for was on its way and may have been done. `server` is away.
    """

    def __init__(self, reason: str, *, maybe_accepted: bool = False, server: str = "Redis") -> None:
        self.reason, self.server = reason, server
        self.maybe_accepted = maybe_accepted
        tail = " The job may have been accepted; retry with the same id." if maybe_accepted else ""
        super().__init__(f"{server} is not available: {reason.rstrip('.')}.{tail}")


class ConfigurationError(ServiceError):
    """One or more settings cannot be used; `problems` has a sentence for each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class DuplicateTaskError(ConfigurationError):
    """Two functions were declared under one task name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name = name
        super().__init__(
            f"The task name {name!r} is taken twice: by {first} and by {second}."
            " Rename one of the functions, or give one of them `name=`."
        )


class NoAppContextError(CallerError):
    """A task's handle needs an app to know where to send the job."""

    def __init__(self, name: str, *, apps: int = 0) -> None:
        self.name = name
        which = f"by {apps} apps, and it cannot be known which is meant" if apps else "by no app"
        super().__init__(
            f"Task {name!r} was used outside of an app context, and is served {which}. Use it in a"
            " request or in a task, or inside `async with app.app_context():`; in a host that is no"
            " Quart app, once `jobs.lifespan` is entered."
        )


class NoJobsError(CallerError):
    """The app was not given jobs."""

    def __init__(self, app: str) -> None:
        self.app = app
        super().__init__(
            f"The app {app!r} has no jobs. Call `jobs.init_app(app)` where the app is made, with"
            " `jobs = Jobs()` of `service`."
        )


class UnknownTaskError(CallerError):
    """No task of this name is registered on the app."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is no task named {name!r}.")


class UnknownJobError(CallerError):
    """No job with this id was accepted, or its result has expired."""

    def __init__(self, job_id: str, text: str = "") -> None:
        self.job_id = job_id
        absent = f"There is no job {job_id}: it was never enqueued, or its result expired."
        super().__init__(text or absent)


class InvalidJobIdError(CallerError):
    """The text cannot be a job's id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            "A job id is 1 to 64 letters, digits, '-', '_' or '.', but not '.' or '..'."
            " This one is not."
        )


class InvalidArgumentsError(CallerError, TypeError):
    """A call does not fit its task; `argument` is the one at fault, empty if it is none alone.

    `path` leads to the place of the mistake inside the argument's value, as far as it is known.
    """

    def __init__(
        self, task: str, argument: str, reason: str, path: tuple[str | int, ...] = ()
    ) -> None:
        self.task = task
        self.argument = argument
        self.reason = reason
        self.path = path
        what = f"argument {argument!r}" if argument else "the arguments"
        super().__init__(f"Task {task!r} cannot be called so: {what}: {reason}")

    def __reduce__(self) -> Any:
        """For Celery, which would store an error that cannot be pickled under another name."""
        return type(self), (self.task, self.argument, self.reason, self.path)


class IdempotencyConflictError(CallerError):
    """The idempotency key was used before, with another body or for another task."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for a different request. Use a new key for a new job."
        )


class QueueFullError(CapacityError):
    """So much waits, or is held by results, that no more jobs are taken; `unit` says of what."""

    def __init__(self, task: str, limit: int, unit: str = "waiting jobs") -> None:
        self.task = task
        self.limit = limit
        self.unit = unit
        super().__init__(f"{task!r} is not started, as there are {limit} {unit}. Try again later.")


class JobFinishedError(CallerError):
    """The job has ended, so there is nothing left to cancel."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"Job {job_id} has ended already, as {state}.")


class CannotPauseError(CallerError):
    """The broker, or its workers' transport, knows of no pauses, or too many tasks are paused."""


class TooManyWaitersError(CapacityError):
    """As many clients wait for jobs in this process as may."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} clients are waiting for jobs already. Try again later.")


class BrokerUnavailableError(UnavailableError):
    """A job could not be handed over. Enqueueing it again with the same id makes no second job."""


class ResultsUnavailableError(UnavailableError):
    """What is known of jobs could not be read or changed."""


class JobFailedError(JobEndError):
    """The job ended without a result; `type` and `message` are those of the task's own error."""

    def __init__(self, job_id: str, state: str, error_type: str, message: str) -> None:
        self.job_id = job_id
        self.state = state
        self.type = error_type
        self.message = message
        super().__init__(f"Job {job_id} ended as {state}: {error_type}: {message}")


class ResultTimeoutError(JobEndError, TimeoutError):
    """The job had not ended when the caller's time was up; it goes on."""

    def __init__(self, job_id: str, timeout: float) -> None:
        self.job_id = job_id
        self.timeout = timeout
        super().__init__(f"Job {job_id} has not ended within {timeout:g} s; it goes on.")


class UnexpectedResultError(JobEndError):
    """The job ended well, but its result is not what its task is annotated to return here."""

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        self.reason = reason
        super().__init__(f"The result of a job of {task!r} is not what it should be: {reason}")


class UnknownDeadLetterError(CallerError):
    """No dead letter has this id."""

    def __init__(self, letter_id: str) -> None:
        self.letter_id = letter_id
        super().__init__(
            f"There is no dead letter {letter_id}. `service dead-letters list` shows all."
        )


# The next three take the message alone, so that Celery can rebuild them from a stored result.
class TaskAbortedError(JobEndError):
    """A body raised MemoryError, SystemExit or another error that would have ended its worker."""


class UnstorableResultError(JobEndError, EncodeError):
    """What a task returned can't be stored. Celery's tracer has an EncodeError fail the job."""


class DeadLetterError(JobEndError):
    """The broker gave a job up: it ended its workers too often, or its message is unreadable."""


class DevServerError(ServiceError):
    """`service dev` cannot start, or one of its processes ended."""
