"""Bounds whatever waits for Redis, and turns its trouble into one error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from service.errors import ResultsUnavailableError, UnavailableError
from service.redis.deadline import Deadline
from service.signals import Incident, note_incident


@asynccontextmanager
async def bounded(
    seconds: float,
    error: type[UnavailableError] = ResultsUnavailableError,
    *,
    maybe_accepted: bool = False,
) -> AsyncIterator[None]:
    """Turn whatever Redis does wrong within the block, silence included, into one error.

    Raises `error` after at most `seconds`; `maybe_accepted` is what it says.
    """
    try:
        async with Deadline(seconds):
            yield
    except TimeoutError as cause:
        note_incident(Incident.REDIS_ERROR)
        raise error(f"no answer within {seconds:g} s", maybe_accepted=maybe_accepted) from cause
    except (RedisError, OSError) as cause:
        note_incident(Incident.REDIS_ERROR)
        reason = str(cause) or type(cause).__name__
        raise error(reason, maybe_accepted=maybe_accepted) from cause
