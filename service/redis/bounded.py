"""Bounds whatever waits for Redis, and turns its trouble into one error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError


@asynccontextmanager
async def bounded(seconds: float, *, maybe_accepted: bool = False) -> AsyncIterator[None]:
    """Turn whatever Redis does wrong within the block, silence included, into one error.

    Raises BrokerUnavailableError after at most `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BrokerUnavailableError(
            f"no answer within {seconds:g} s", maybe_accepted=maybe_accepted
        ) from error
    except (RedisError, OSError) as error:
        raise BrokerUnavailableError(
            str(error) or type(error).__name__, maybe_accepted=maybe_accepted
        ) from error
