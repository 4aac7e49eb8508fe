"""Connects to the node of a Redis Cluster that has the service's keys, all in one hash slot.

Each connection asks the node that it has reached for one of these keys, and goes on to the node
that this one names. A node that has lost the hash slot since says so in answer to any command. The
connection is closed then, and finds the right node when it is opened again, as behind Sentinel.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.redis.transient import OF_SCRIPTS, answer_of

Address: TypeAlias = tuple[str, int]

SCHEMES: Final = ("redis-cluster", "rediss-cluster")
_PORT: Final = 6379
# What says that another node has the hash slot, or none just now. A MovedError is an AskError.
_ELSEWHERE: Final = (AskError, ClusterDownError, ReadOnlyError)
_UNREACHABLE: Final = (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError)


def is_cluster(url: str) -> bool:
    """Whether an address is that of nodes of a cluster."""
    return urlsplit(url).scheme in SCHEMES


def one_address(url: str) -> str:
    """The first address of several, as that of a Redis outside of a cluster."""
    return url.partition(";")[0].replace("-cluster:", ":", 1)


def are_in_one_slot(prefixes: Iterable[str]) -> bool:
    """Whether all keys that begin with any of these are in one hash slot."""
    keys = (prefix + end for prefix in prefixes for end in "ab")
    return len({key_slot(key.encode()) for key in keys}) == 1


class HashSlot:
    """Where a hash slot is looked for: at the node that had it last, then at `nodes`.

    `key` is any key of it. All connections of a pool share one of these.
    """

    @classmethod
    def at(cls, url: str, key: str) -> "HashSlot":
        """The hash slot of a key, at `redis-cluster://host:port;redis-cluster://…`."""
        parts = [urlsplit(part) for part in url.split(";") if part]
        return cls(key, [(part.hostname or "localhost", part.port or _PORT) for part in parts])

    def __init__(self, key: str, nodes: Iterable[Address]) -> None:
        self.key = key
        self._nodes = deque(nodes)
        self._last: Address | None = None

    def addresses(self) -> list[Address]:
        """The addresses to try, best first.

        The next caller gets them in another order, unless one is found by then: the first node may
        be frozen, and whoever waits for it give up before trying another.
        """
        nodes = list(self._nodes)
        self._nodes.rotate(-1)
        last, self._last = self._last, None
        return nodes if last is None else [last, *nodes]

    def found(self, address: Address) -> None:
        """Note which node has it."""
        self._last = address


class _Search:
    """The addresses that one connection tries, each once, until a node has the hash slot."""

    def __init__(self, hash_slot: HashSlot) -> None:
        self._open = deque(hash_slot.addresses())
        self._tried: set[Address] = set()
        self.error: Exception = RedisConnectionError("No node of the Redis Cluster has the keys")

    def __iter__(self) -> Iterator[Address]:
        while self._open:
            address = self._open.popleft()
            if address not in self._tried:
                self._tried.add(address)
                yield address

    def go_on(self, error: Exception, asked: str) -> None:
        """Go on to the node that the asked one has named, or to the next one."""
        if isinstance(error, MovedError):
            self._open.appendleft((error.host or asked, error.port))
        elif isinstance(error, ClusterDownError):
            self.error = RedisConnectionError(f"The Redis Cluster is down: {answer_of(error)}")
        else:
            self.error = error


def _is_elsewhere(error: ResponseError) -> bool:
    return isinstance(error, _ELSEWHERE) or OF_SCRIPTS in str(error)


def _lost(error: Exception) -> RedisConnectionError:
    text = f"This node of the Redis Cluster does not have the keys: {answer_of(error)}"
    return RedisConnectionError(text)


def in_cluster(base: type, kind: Any) -> Any:
    """The class of connections like those of `kind` that look for a hash slot, as `base` does."""
    return type(kind.__name__, (base, kind), {})


class AsyncHashSlotConnection:
    """A base in front of redis-py's asyncio connections."""

    host: str
    port: int
    is_connected: bool

    def __init__(self, *, hash_slot: HashSlot, **options: Any) -> None:
        self.hash_slot = hash_slot
        super().__init__(**options)

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = False
    ) -> None:
        """Connect to the node that has the hash slot. Raises RedisError."""
        if self.is_connected:
            return
        connection: Any = super()
        search = _Search(self.hash_slot)
        for self.host, self.port in search:
            try:
                await connection.connect_check_health(check_health, retry_socket_connect)
            except (MovedError, *_UNREACHABLE) as error:
                search.go_on(error, self.host)
            else:
                self.hash_slot.found((self.host, self.port))
                return
        raise search.error

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Ask whether this node has the hash slot, before it is subscribed to anything."""
        connection: Any = super()
        await connection.on_connect_check_health(check_health)
        whole: Any = self
        await whole.send_command("EXISTS", self.hash_slot.key, check_health=False)
        try:
            await connection.read_response()
        except AskError as error:  # it has it, and is about to give it away
            if isinstance(error, MovedError):
                raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Close the connection where the node does not have the hash slot any more."""
        connection: Any = super()
        try:
            return await connection.read_response(*args, **options)
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            whole: Any = self  # a base before this one may have more to do
            await whole.disconnect(nowait=True)
            raise _lost(error) from error


class HashSlotConnection:
    """The same in front of redis-py's blocking connections."""

    host: str
    port: int
    is_connected: bool

    def __init__(self, *, hash_slot: HashSlot, **options: Any) -> None:
        self.hash_slot = hash_slot
        super().__init__(**options)

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = False
    ) -> None:
        """Connect to the node that has the hash slot. Raises RedisError."""
        if self.is_connected:
            return
        connection: Any = super()
        search = _Search(self.hash_slot)
        for self.host, self.port in search:
            try:
                connection.connect_check_health(check_health, retry_socket_connect)
            except (MovedError, *_UNREACHABLE) as error:
                search.go_on(error, self.host)
            else:
                self.hash_slot.found((self.host, self.port))
                return
        raise search.error

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Ask whether this node has the hash slot, before it is subscribed to anything."""
        connection: Any = super()
        connection.on_connect_check_health(check_health)
        whole: Any = self
        whole.send_command("EXISTS", self.hash_slot.key, check_health=False)
        try:
            connection.read_response()
        except AskError as error:  # it has it, and is about to give it away
            if isinstance(error, MovedError):
                raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Close the connection where the node does not have the hash slot any more."""
        connection: Any = super()
        try:
            return connection.read_response(*args, **options)
        except ResponseError as error:
            if not _is_elsewhere(error):
                raise
            whole: Any = self  # Kombu's poller hears of it
            whole.disconnect()
            raise _lost(error) from error
