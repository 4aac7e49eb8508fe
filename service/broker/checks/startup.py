"""Asks Redis when a process starts whether it will keep what it is given."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from quart import Quart
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from service.broker.checks.findings import DISPENSABLE, Answers, Finding, check
from service.errors import ConfigurationError
from service.redis.clients import broker_redis_url, broker_url, connect_blocking
from service.redis.keys import broker_keys
from service.settings import Settings

logger: Final = logging.getLogger(__name__)

# The commands that the transport's scripts and its consuming connection call. Each entry's key is
# the arguments after the scratch key. Their number must be right, for Redis looks at it before it
# looks at the user's rights.
_ON_SCRATCH: Final[Mapping[str, tuple[str, ...]]] = {
    "x EX 5": ("set",),  # first: the others then fail at the key's type, and change nothing
    "": ("rpop", "llen", "zcard", "exists", "zpopmin", "hgetall"),
    "x": ("lpush", "rpush", "hget", "hmget", "hdel", "hexists", "zrem", "zscore"),
    "0 0": ("hset", "zadd", "zcount", "zrange", "zremrangebyscore"),
    "0.01": ("blpop",),
    "5": ("expire",),
    "5000": ("pexpire",),
}
_WITHOUT_KEY: Final = {
    "time": "",
    "eval": "return(1) 0",
    "evalsha": "0" * 40 + " 0",
    DISPENSABLE: "OFF",
}
# The addresses of servers that need no look: this process has started them for itself.
OWN_SERVERS: Final = set[str]()
COMMANDS: Final = frozenset({*_WITHOUT_KEY, *(c for group in _ON_SCRATCH.values() for c in group)})


def init_checks(app: Quart, settings: Settings) -> None:
    """Check Redis before the app serves, on the web side and in each worker process alike."""

    @app.before_serving
    async def check_redis() -> None:
        if OWN_SERVERS.issuperset(_addresses(settings)):
            return
        findings = await asyncio.to_thread(inspect_redis, settings)
        for finding in findings:
            if not finding.refuse:
                logger.warning("%s", finding.text)
        refuse(findings)


def inspect_redis(settings: Settings) -> list[Finding]:
    """What is wrong with the Redis of the results, and with that of the broker if it is another."""
    return [finding for url in _addresses(settings) for finding in _findings(settings, url)]


def refuse(findings: Iterable[Finding]) -> None:
    """Raise ConfigurationError where jobs would be lost silently."""
    if refused := [finding.text for finding in findings if finding.refuse]:
        raise ConfigurationError(*refused)


def _addresses(settings: Settings) -> list[str]:
    return [*dict.fromkeys((settings.redis_url, broker_redis_url(settings)))]


def _findings(settings: Settings, url: str) -> tuple[Finding, ...]:
    for_transport = (
        url == broker_url(settings)
        and bool(settings.lease)
        and "broker_transport" not in settings.celery
    )
    try:
        with connect_blocking(settings, url) as client:
            get: Any = client.config_get  # as Any: redis-py types it for both kinds of client
            info = _told(client.info)
            config = _told(lambda: {**get("maxmemory*"), **get("append*")})
            scratch = broker_keys(settings.celery).scratch
            denied = tuple(_denied(client, scratch)) if for_transport else ()
    except (RedisError, OSError) as error:
        text = f"Redis cannot be checked, as it is not available yet: {error}"
        return (Finding(refuse=False, text=text),)
    min_replicas = settings.min_replicas if url == settings.redis_url else 0
    return check(Answers(info, config, denied, for_transport, min_replicas))


def _told(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except ResponseError:  # also for want of rights
        return None


def _denied(client: Redis, scratch: str) -> Iterator[str]:
    """Try the commands on a key that holds text: rights are checked first, the type then stops."""
    calls = [(c, [scratch, *rest.split()]) for rest, group in _ON_SCRATCH.items() for c in group]
    first, *others = [*calls, *((c, rest.split()) for c, rest in _WITHOUT_KEY.items())]
    if _denied_of(client, [first]):
        yield first[0]
        return  # without the text the others would leave something behind
    yield from _denied_of(client, others)
    with suppress(NoPermissionError):  # then it goes by itself in a few seconds
        client.delete(scratch)


def _denied_of(client: Redis, calls: Sequence[tuple[str, list[str]]]) -> list[str]:
    """Those of the commands that the user may not run; asked for in one round trip."""
    names = [command for command, _ in calls]
    with client.pipeline(transaction=False) as pipe:
        for command, arguments in calls:
            pipe.execute_command(*command.split(), *arguments)  # type: ignore[no-untyped-call]  # by redis-py
        answers = pipe.execute(raise_on_error=False)
    return [
        name
        for name, answer in zip(names, answers, strict=True)
        if isinstance(answer, NoPermissionError)
    ]
