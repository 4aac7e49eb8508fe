"""The asyncio connection to Redis, on which nothing waits without a bound."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import BrokerUnavailableError
from service.redis.clients import broker_redis_url, connect
from service.settings import get_settings

_EXTENSION: Final = "service.redis"
_BROKER: Final = "service.redis.broker"


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


def init_redis(app: Quart) -> Redis:
    """Give the app its one client, or two if the broker has a Redis of its own.

    They are closed when the app stops serving.
    """
    settings = get_settings(app)
    client = broker = connect(settings)
    app.after_serving(client.aclose)
    if broker_redis_url(settings) != settings.redis_url:
        broker = connect(settings, broker_redis_url(settings))
        app.after_serving(broker.aclose)
    app.extensions |= {_EXTENSION: client, _BROKER: broker}
    return client


def get_redis(app: Quart) -> Redis:
    """The client that the app was given."""
    client: Redis = app.extensions[_EXTENSION]
    return client


def get_broker_redis(app: Quart) -> Redis:
    """The client of the broker's Redis: the same one, unless that is another Redis."""
    client: Redis = app.extensions[_BROKER]
    return client
