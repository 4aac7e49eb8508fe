"""The errors that are raised in a body from outside."""

import asyncio

from celery.exceptions import SoftTimeLimitExceeded


class SoftLimitCancelledError(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as a body meets it.

    Also a cancellation, because TaskGroup and `asyncio.timeout` clean up only for that.
    """


class JobCancelledError(BaseException):
    """Ends a job that was cancelled from outside: revoked, past its hard limit, or given back.

    Not an Exception, so that it passes through Celery's tracer, which would store it.
    """
