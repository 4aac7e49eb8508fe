"""Why a running job is made to end, and the errors that end its body."""

import asyncio
from enum import Enum

from celery.exceptions import SoftTimeLimitExceeded


class EndReason(Enum):
    """Why a job that runs under the asyncio pool is made to end."""

    CANCELLED = "cancelled"  # Celery has stored REVOKED and acknowledged
    HARD_LIMIT = "hard limit"  # Celery stores the failure
    HOOK_LIMIT = "hook limit"  # the outcome is stored and stays: only a hook is cut short
    GIVEN_BACK = "given back"  # the worker stops


class SoftLimitCancelledError(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as a body meets it.

    Also a cancellation, because TaskGroup and `asyncio.timeout` clean up only for that.
    """


class JobCancelledError(BaseException):
    """Ends a job that has an EndReason.

    Not an Exception, so that it passes through Celery's tracer, which would store it.
    """
