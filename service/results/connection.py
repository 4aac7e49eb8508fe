"""The asyncio connection to Redis, on which nothing waits without a bound."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from quart import Quart
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from service.errors import BrokerUnavailableError
from service.settings import Settings, get_settings

_EXTENSION: Final = "service.redis"
_MAX_CONNECTIONS: Final = 20


def connect(settings: Settings) -> Redis:
    """A client that connects when it is first used, and never retries by itself.

    redis-py's own default is ten retries, which made one GET on a silent server take 12 s.
    """
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=_MAX_CONNECTIONS,
        timeout=settings.redis_timeout,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=15,
        # While it is on, the pool hands out connections that the server has closed.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis.from_pool(pool)


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
    """Give the app its one client; closed when the app stops serving."""
    client = connect(get_settings(app))
    app.extensions[_EXTENSION] = client
    app.after_serving(client.aclose)
    return client


def get_redis(app: Quart) -> Redis:
    """The client that the app was given."""
    client: Redis = app.extensions[_EXTENSION]
    return client
