"""Asks Redis when a process starts whether it will keep what it is given."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from quart import Quart
from redis.exceptions import RedisError, ResponseError

from service.broker.checks.findings import CLUSTER, DATABASE, RESP2, Answers, Finding, check
from service.broker.checks.rights import OF_CLUSTERS, Refused, closed_channels, refused_commands
from service.errors import ConfigurationError
from service.redis.clients import broker_url, connect_blocking, redis_urls
from service.redis.cluster import is_cluster
from service.redis.keys import broker_keys, result_keys
from service.settings import Settings

logger: Final = logging.getLogger(__name__)

# Marks, in its extensions, an app whose Redis is not checked: its process has started that Redis
# for its own tests.
UNCHECKED: Final = "service.broker.checks:unchecked"


def init_checks(app: Quart, settings: Settings) -> None:
    """Check Redis before the app serves, on the web side and in each worker process alike."""

    @app.before_serving
    async def check_redis() -> None:
        if UNCHECKED in app.extensions:
            return
        findings = await asyncio.to_thread(inspect_redis, settings)
        for finding in findings:
            if not finding.refuse:
                logger.warning("%s", finding.text)
        refuse(findings)


def inspect_redis(settings: Settings) -> list[Finding]:
    """What is wrong with the Redis of the results, and with that of the broker if it is another."""
    return [finding for url in redis_urls(settings) for finding in _findings(settings, url)]


def refuse(findings: Iterable[Finding]) -> None:
    """Raise ConfigurationError where jobs would be lost silently."""
    if refused := [finding.text for finding in findings if finding.refuse]:
        raise ConfigurationError(*refused)


def _findings(settings: Settings, url: str) -> tuple[Finding, ...]:
    of_results = url == settings.redis_url
    for_transport = (
        url == broker_url(settings)
        and bool(settings.lease)
        and "broker_transport" not in settings.celery
    )
    try:
        with connect_blocking(settings, url) as client:
            pool = client.connection_pool
            # Connect once: `_told` would take a failure for the answer to a question.
            pool.release(pool.get_connection())
            get: Any = client.config_get  # as Any: redis-py types it for both kinds of client
            info = _told(client.info)
            config = _told(lambda: {**get("maxmemory*"), **get("append*")})
            scratch = broker_keys(settings.celery).scratch
            refused = refused_commands(client, scratch) if for_transport else Refused()
            database = (pool.connection_kwargs.get("db") or 0) if for_transport else None
            channels = _channels(settings, of_results=of_results, database=database)
            closed = tuple(closed_channels(client, channels))
    except OF_CLUSTERS:
        return (CLUSTER,)
    except (RedisError, OSError) as error:
        return (_without_answers(error, url),)
    return check(
        Answers(
            info,
            config,
            denied=refused.denied,
            missing=refused.missing,
            channels=closed,
            for_transport=for_transport,
            for_cluster=is_cluster(url),
            min_replicas=settings.min_replicas if of_results else 0,
        )
    )


def _without_answers(error: Exception, url: str) -> Finding:
    """What to say of a Redis to which no connection can be made."""
    if isinstance(error, ResponseError):
        text = str(error).lower()
        if "in cluster mode" in text:  # another database than 0 was asked for
            return DATABASE if is_cluster(url) else CLUSTER
        if "db index" in text and is_cluster(url):  # the same, of Valkey 9
            return DATABASE
        if "hello" in text:
            return RESP2
    text = f"Redis cannot be checked, as it is not available yet: {error}"
    return Finding(refuse=False, text=text)


def _told(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except ResponseError:  # also for want of rights
        return None


def _channels(settings: Settings, *, of_results: bool, database: int | None) -> Iterator[str]:
    """The channels that are used on a Redis, as the rules of an ACL name them.

    `database` is that of our transport, None where it does not use this Redis. The name of the
    channel of remote control is from Kombu's `Channel._get_publish_topic`.
    """
    celery = settings.celery
    if of_results:
        yield result_keys(settings).record("*")
    if database is not None and celery.get("worker_enable_remote_control", True):
        options = celery.get("broker_transport_options") or {}
        fanout = options.get("fanout_prefix", True)
        start = fanout if isinstance(fanout, str) else "/{db}." if fanout else ""
        exchange = f"{celery.get('control_exchange') or 'celery'}.pidbox"
        yield f"{broker_keys(celery).prefix}{start.format(db=database)}{exchange}"
