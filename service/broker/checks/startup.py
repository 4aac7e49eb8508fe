"""Asks Redis when a process starts whether it will keep what it is given."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from quart import Quart
from redis.exceptions import RedisError

from service.broker.checks.findings import Finding, ask, check
from service.errors import ConfigurationError
from service.redis.clients import broker_redis_url, broker_url, connect_blocking
from service.settings import Settings

logger: Final = logging.getLogger(__name__)


def init_checks(app: Quart, settings: Settings) -> None:
    """Check Redis before the app serves, on the web side and in each worker process alike."""

    @app.before_serving
    async def check_redis() -> None:
        findings = await asyncio.to_thread(inspect_redis, settings)
        for finding in findings:
            if not finding.refuse:
                logger.warning("%s", finding.text)
        refuse(findings)


def inspect_redis(settings: Settings) -> list[Finding]:
    """What is wrong with the Redis of the results, and with that of the broker."""
    return [finding for url in _addresses(settings) for finding in _findings(settings, url)]


def refuse(findings: Iterable[Finding]) -> None:
    """Raise ConfigurationError where jobs would be lost silently."""
    if refused := [finding.text for finding in findings if finding.refuse]:
        raise ConfigurationError(refused)


def _addresses(settings: Settings) -> tuple[str, ...]:
    """The results' Redis, and the broker if it is another one."""
    return tuple(dict.fromkeys((settings.redis_url, broker_redis_url(settings))))


def _is_for_transport(settings: Settings, url: str) -> bool:
    return (
        url == broker_url(settings)
        and bool(settings.lease)
        and "broker_transport" not in settings.celery
    )


def _scratch_key(settings: Settings) -> str:
    """A key like those of waiting workers: the user may have rights to keys of a prefix only."""
    options = settings.celery.get("broker_transport_options") or {}
    unacked = options.get("unacked_key", "unacked")
    return f"{options.get('global_keyprefix', '')}{unacked}_waiting:check"


def _findings(settings: Settings, url: str) -> tuple[Finding, ...]:
    for_transport = _is_for_transport(settings, url)
    try:
        with connect_blocking(settings, url) as client:
            answers = ask(client, scratch=_scratch_key(settings) if for_transport else "")
    except (RedisError, OSError) as error:
        text = f"Redis cannot be checked, as it is not available yet: {error}"
        return (Finding(refuse=False, text=text),)
    return check(answers, for_transport=for_transport)
