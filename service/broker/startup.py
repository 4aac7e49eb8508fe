"""Asks Redis when a process starts whether it will keep what it is given."""

import asyncio
import logging
from typing import Final

from quart import Quart
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.broker.checks import ask, check
from service.errors import ConfigurationError
from service.settings import get_settings

logger: Final = logging.getLogger(__name__)


def init_checks(app: Quart) -> None:
    """Check Redis before the app serves, on the web side and in each worker process alike."""

    @app.before_serving
    async def check_redis() -> None:
        settings = get_settings(app)
        if settings.redis_url.startswith(("redis:", "rediss:")):
            await asyncio.to_thread(_check, settings.redis_url, settings.redis_timeout)


def _check(url: str, timeout: float) -> None:
    """Warn of what is at risk. Raises ConfigurationError where jobs would be lost silently."""
    try:
        with Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            findings = check(ask(client))
    except (RedisError, OSError) as error:
        logger.warning("Redis cannot be checked, as it is not available yet: %s", error)
        return
    for finding in findings:
        if not finding.refuse:
            logger.warning("%s", finding.text)
    refused = [finding.text for finding in findings if finding.refuse]
    if refused:
        raise ConfigurationError(refused)
