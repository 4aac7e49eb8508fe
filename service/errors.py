"""What can go wrong, as one tree that knows nothing of HTTP.

ServiceError
├── ConfigurationError          a setting or a task declaration is wrong; told at start
│   └── DuplicateTaskError
├── NoAppContextError           a handle was used where no app is current
├── UnknownTaskError
├── UnknownJobError
├── InvalidJobIdError
├── InvalidArgumentsError       a call does not fit its task's signature
├── IdempotencyConflictError    one idempotency key, two different requests
├── QueueFullError              the queue has as many jobs as it may
├── JobFinishedError            a job that has ended cannot be cancelled
├── TooManyWaitersError         this process follows as many jobs as it may
├── BrokerUnavailableError      Redis refused, was silent, or cannot take more
├── JobFailedError              what `await job.result()` raises for a failed job
├── ResultTimeoutError
├── TaskAbortedError            a body raised what would have ended its worker
├── UnstorableResultError       what a task returned can't be a result
├── UnknownDeadLetterError
├── DeadLetterError             stored as the failure of a job that was given up on
└── DevServerError              `service dev` cannot start or had to stop
"""

from collections.abc import Sequence

from kombu.exceptions import EncodeError


class ServiceError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(ServiceError):
    """One or more settings cannot be used; `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DuplicateTaskError(ConfigurationError):
    """Two functions were declared under one task name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name = name
        super().__init__(
            [
                f"The task name {name!r} is taken twice: by {first} and by {second}."
                " Rename one of the functions, or give one of them `name=`."
            ]
        )


class NoAppContextError(ServiceError):
    """A task's handle needs an app to know where to send the job."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Task {name!r} was used outside of an app context."
            " Use it in a request or in a task, or inside `async with app.app_context():`."
        )


class UnknownTaskError(ServiceError):
    """No task of this name is registered on the app."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is no task named {name!r}.")


class UnknownJobError(ServiceError):
    """No job with this id was accepted, or its result has expired."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"There is no job {job_id}: it was never enqueued, or its result expired.")


class InvalidJobIdError(ServiceError):
    """The text cannot be a job's id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            "A job id is 1 to 64 letters, digits, '-', '_' or '.', but not '.' or '..'."
            " This one is not."
        )


class InvalidArgumentsError(ServiceError, TypeError):
    """A call does not fit its task; `argument` is the one at fault, empty if it is none alone."""

    def __init__(self, task: str, argument: str, reason: str) -> None:
        self.task = task
        self.argument = argument
        self.reason = reason
        what = f"argument {argument!r}" if argument else "the arguments"
        super().__init__(f"Task {task!r} cannot be called so: {what}: {reason}")


class IdempotencyConflictError(ServiceError):
    """The idempotency key was used before, with another body or for another task."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for a different request. Use a new key for a new job."
        )


class QueueFullError(ServiceError):
    """So many jobs wait in the queue that no more are taken now."""

    def __init__(self, task: str, limit: int) -> None:
        self.task = task
        self.limit = limit
        super().__init__(f"{limit} jobs wait before {task!r} already. Try again later.")


class JobFinishedError(ServiceError):
    """The job has ended, so there is nothing left to cancel."""

    def __init__(self, job_id: str, state: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"Job {job_id} has ended already, as {state}.")


class TooManyWaitersError(ServiceError):
    """As many clients wait for jobs in this process as may."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} clients are waiting for jobs already. Try again later.")


class BrokerUnavailableError(ServiceError):
    """Redis could not be asked, or did not answer in time.

    `maybe_accepted` is true when a job was on its way and may have arrived: enqueue it again
    with the same id, which never makes a second job.
    """

    def __init__(self, reason: str, *, maybe_accepted: bool = False) -> None:
        self.reason = reason
        self.maybe_accepted = maybe_accepted
        tail = " The job may have been accepted; retry with the same id." if maybe_accepted else ""
        super().__init__(f"Redis is not available: {reason.rstrip('.')}.{tail}")


class JobFailedError(ServiceError):
    """The job ended without a result; `type` and `message` are those of the task's own error."""

    def __init__(self, job_id: str, state: str, error_type: str, message: str) -> None:
        self.job_id = job_id
        self.state = state
        self.type = error_type
        self.message = message
        super().__init__(f"Job {job_id} ended as {state}: {error_type}: {message}")


class ResultTimeoutError(ServiceError, TimeoutError):
    """The job had not ended when the caller's time was up; it goes on."""

    def __init__(self, job_id: str, timeout: float) -> None:
        self.job_id = job_id
        self.timeout = timeout
        super().__init__(f"Job {job_id} has not ended within {timeout:g} s; it goes on.")


class TaskAbortedError(ServiceError):
    """A body raised MemoryError, SystemExit or another error that would have ended its worker.

    Takes the message alone, so that Celery can rebuild it from a stored result.
    """


class UnstorableResultError(ServiceError, EncodeError):
    """What a task returned can't be stored: it is not strict JSON, or too large.

    An EncodeError too, for which Celery's tracer makes the job a failed one. Takes the message
    alone, so that Celery can rebuild it from a stored result.
    """


class UnknownDeadLetterError(ServiceError):
    """No dead letter has this id."""

    def __init__(self, letter_id: str) -> None:
        self.letter_id = letter_id
        super().__init__(
            f"There is no dead letter {letter_id}. `service dead-letters list` shows all."
        )


class DeadLetterError(ServiceError):
    """The broker gave a job up: it ended its workers too often, or its message is unreadable.

    Takes the message alone, so that Celery can rebuild it from a stored result.
    """


class DevServerError(ServiceError):
    """`service dev` cannot start, or one of its processes ended."""
