"""How far the tracer is with a job: kept in Celery's private `request._protected`, only here.

Celery has 0 or 1 there: whether its worker has called the task, so that a call inside of that one
is a direct call (`__protected_call__` in celery.app.trace). To Celery every phase but NEW is a 1.
"""

from enum import IntEnum
from typing import Any, Final


class Phase(IntEnum):
    """The phases of one run of a job, in their order."""

    NEW = 0
    WANTED = 1  # the record does not say that it was cancelled
    BEGUN = 2  # the task was called
    IN_BODY = 3  # or after it


_PHASES: Final = tuple(Phase)


def phase_of(request: Any) -> Phase:
    """The phase of the request's job."""
    phase: Phase = _PHASES[request._protected]  # noqa: SLF001
    return phase


def enter_phase(request: Any, phase: Phase) -> None:
    """Note that the request's job is this far."""
    request._protected = phase  # noqa: SLF001
