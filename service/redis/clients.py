"""Makes Redis clients, asyncio and blocking, for each kind of address that the settings take."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from hiredis import pack_command
from redis import ConnectionPool, DriverInfo, Redis
from redis import connection as _connection
from redis import sentinel as _blocking
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import sentinel as _asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from service.errors import ConfigurationError
from service.redis import cluster
from service.redis.keys import broker_keys, result_keys
from service.settings import Settings

# As Any: redis-py has no types here.
asyncio_sentinel: Any = _asyncio
blocking_sentinel: Any = _blocking
connection: Any = _connection

_MAX_CONNECTIONS: Final = 20
# Of every client, Celery's and Kombu's too: else redis-py reads its version from a file for each
# connection.
DRIVER: Final = DriverInfo()
_SENTINEL: Final = "sentinel"
_SCHEMES: Final = ("redis", "rediss", _SENTINEL, *cluster.SCHEMES)
_OF_SERVER: Final = ("db", "username", "password")
# Celery looks for the name of the master in the first for its broker, in the second for its result
# backend.
_OPTIONS: Final = ("broker_transport_options", "result_backend_transport_options")
PREFIX_IN_CLUSTER: Final = (
    "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS and SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS,"
    ' both with {"global_keyprefix": "{shop}:"}'
)


def broker_url(settings: Settings) -> str:
    """The address of the broker, which may be another server than a Redis."""
    return str(settings.celery.get("broker_url") or settings.redis_url)


def broker_redis_url(settings: Settings) -> str:
    """The address of the broker's Redis; that of the results if the broker is another server."""
    url = broker_url(settings)
    return url if urlsplit(url).scheme in _SCHEMES else settings.redis_url


def redis_urls(settings: Settings) -> list[str]:
    """The address of the Redis of the results, and that of the broker's if it is another."""
    return [*dict.fromkeys((settings.redis_url, broker_redis_url(settings)))]


def is_redis(url: object) -> bool:
    """Whether this is the address of a Redis, or of its sentinels."""
    return isinstance(url, str) and url.partition(":")[0] in _SCHEMES


def connect(settings: Settings, url: str = "") -> AsyncRedis:
    """An asyncio client of the settings' Redis, or of the one at `url`.

    It connects when it is first used. It tries once more where a connection was closed, as servers
    do with idle ones, and never where Redis is silent: redis-py's default of ten retries made one
    GET take 12 s. Raises ConfigurationError.
    """
    pool = _pool(
        settings,
        url,
        (
            BlockingConnectionPool,
            cluster.AsyncHashSlotConnection,
            _SentinelPool,
            asyncio_sentinel.Sentinel,
        ),
        max_connections=_MAX_CONNECTIONS,
        timeout=settings.redis_timeout,
        retry=AsyncRetry(NoBackoff(), 1, (RedisConnectionError,)),
        health_check_interval=15,
        # With it redis-py's pool hands out connections that the server has closed (redis-py#4252).
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_PackingConnection, kind), {})
    return AsyncRedis.from_pool(pool)


def connect_blocking(settings: Settings, url: str = "") -> Redis:
    """A blocking client of the settings' Redis, or of the one at `url`; also without retries.

    Raises ConfigurationError.
    """
    kinds = (
        ConnectionPool,
        cluster.HashSlotConnection,
        _BlockingSentinelPool,
        blocking_sentinel.Sentinel,
    )
    return Redis.from_pool(_pool(settings, url, kinds, retry=Retry(NoBackoff(), 0)))


def _pool(settings: Settings, url: str, kinds: tuple[Any, Any, Any, Any], **options: Any) -> Any:
    """A pool for one server.

    `kinds` are the pool, the base of its connections to a cluster, the pool of a sentinel://
    address, and Sentinel.

    `sentinel://host:port/database;sentinel://…` names the sentinels. The first of these addresses
    has the database, and name and password for the server.
    """
    plain_pool, hash_slot_base, sentinel_pool, sentinel = kinds
    address = url or settings.redis_url
    deadlines = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), settings.redis_timeout)
    options["driver_info"] = DRIVER
    if cluster.is_cluster(address):
        key = _key_in_cluster(settings, address)
        pool = plain_pool.from_url(cluster.one_address(address), **deadlines, **options)
        pool.connection_class = cluster.in_cluster(hash_slot_base, pool.connection_class)
        pool.connection_kwargs["hash_slot"] = cluster.HashSlot.at(address, key)
        return pool
    if not is_sentinel(address):
        return plain_pool.from_url(address, **deadlines, **options)
    given = sentinel_options(settings.celery)
    if not given.get("master_name"):
        raise ConfigurationError(
            "A sentinel:// address needs the name of the master. Set"
            ' SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS={"master_name": "..."}.'
        )
    addresses = [part.removeprefix(_SENTINEL) for part in address.split(";") if part]
    parts = [connection.parse_url(f"redis{part}") for part in addresses]
    hosts = [(part.get("host", "localhost"), part.get("port", 26379)) for part in parts]
    asked = sentinel(hosts, sentinel_kwargs=deadlines | (given.get("sentinel_kwargs") or {}))
    of_server = {name: parts[0][name] for name in _OF_SERVER if name in parts[0]}
    return sentinel_pool(given["master_name"], asked, **of_server, **deadlines, **options)


def _key_in_cluster(settings: Settings, url: str) -> str:
    """A key that the service has there. Raises ConfigurationError if not all are in one slot."""
    keys, beside = result_keys(settings), broker_keys(settings.celery)
    prefixes = [keys.prefix, keys.own] if url == settings.redis_url else []
    if url == broker_redis_url(settings):
        prefixes.append(beside.prefix)
    if not cluster.are_in_one_slot(prefixes):
        raise ConfigurationError(
            "In a Redis Cluster all keys of the service have to be in one slot: begin them with the"
            f" same hash tag, by {PREFIX_IN_CLUSTER}."
        )
    return keys.record("") if url == settings.redis_url else beside.in_flight[1]


def is_sentinel(url: str) -> bool:
    """Whether an address is that of sentinels, which are asked for the server's address."""
    return urlsplit(url).scheme == _SENTINEL


def sentinel_options(celery: Mapping[str, Any]) -> dict[str, Any]:
    """The options that Sentinel needs, from the setting of Celery that has them."""
    names = ("master_name", "sentinel_kwargs", "min_other_sentinels")
    given = [celery.get(options) or {} for options in _OPTIONS]
    return {name: each[name] for name in names for each in reversed(given) if name in each}


class _PackingConnection:
    """Packs commands in C, and raises one kind of error for a lost connection on any loop."""

    _writer: Any

    def pack_command(self, *args: Any) -> Any:
        """Pack by hiredis, in a sixth of the time that redis-py's Python takes."""
        name = args[0]
        if isinstance(name, str) and " " not in name:
            try:
                return [pack_command(args)]
            except TypeError:  # a type that redis-py may know
                pass
        connection: Any = super()
        return connection.pack_command(*args)

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Raise redis-py's ConnectionError for a closed connection under uvloop, too."""
        connection: Any = super()
        try:
            await connection.send_packed_command(*args, **options)
        except RuntimeError as error:
            if "handler is closed" not in str(error):
                raise
            raise RedisConnectionError("The connection was closed.") from error

    async def disconnect(self, nowait: bool = False, **options: Any) -> None:
        """With `nowait`, drop the connection at once.

        redis-py's own leaves the socket open until a silent server has read what was sent, or has
        answered the end of TLS.
        """
        if nowait and self._writer is not None:
            self._writer.transport.abort()
        connection: Any = super()
        await connection.disconnect(nowait=nowait, **options)


class _SentinelPool(asyncio_sentinel.SentinelConnectionPool, BlockingConnectionPool):  # type: ignore[misc]  # Any
    """Waits for a free connection where redis-py's own fails; closes the sentinels' ones too."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:  # else the sentinels have just named another master
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


class _BlockingSentinelPool(blocking_sentinel.SentinelConnectionPool):  # type: ignore[misc]  # Any
    """Closes its connections to the sentinels along with those to the server."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.close()
