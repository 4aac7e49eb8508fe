"""Has what goes on from a job be sent also where the broker, or Redis, is away for long.

Celery ends a job as a FAILURE where its retry, or a job that follows it, cannot be sent, although
its body is done.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from kombu.exceptions import OperationalError

# Tries, with a pause of up to a second after each. Kombu has OperationalError for a connection that
# could not be made in time.
_POLICY: Final = {
    "max_retries": 1 << 20,
    "interval_start": 0.2,
    "interval_max": 1,
    "retry_errors": (OperationalError,),
}
_is_patient: Final[ContextVar[bool]] = ContextVar("is_patient", default=False)


@contextmanager
def patiently() -> Iterator[None]:
    """Inside, Celery sends what goes on from a job: its retry, or the jobs that follow."""
    token = _is_patient.set(True)
    try:
        yield
    finally:
        _is_patient.reset(token)


def is_patient() -> bool:
    """Whether what is sent here waits for the end of an outage."""
    return _is_patient.get()


def with_patience(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call of `send_task`, with how often, and after which pauses, it is retried.

    Those that have a policy of their own keep it.
    """
    if not is_patient():
        return dict(options)
    return {**options, "retry_policy": {**_POLICY, **(options.get("retry_policy") or {})}}
