"""Asks Redis to change who holds a message: one Lua script for each step that must be atomic."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from service.broker.delivery import Held
from service.redis.keys import BrokerKeys
from service.redis.script import Script

_SCRIPTS: Final = {
    name: Script.load("service.broker.lua", *needed, name)
    for name, needed in {
        "ack": (),
        "renew": (),
        "expired": (),
        "claim": (),
        "take": (),
        "put": (),
        "replay": (),
        "restore": ("move",),
        "bury": ("dead_letter", "move"),
    }.items()
}


def script(name: str) -> Script:
    """The script of `<name>.lua`."""
    return _SCRIPTS[name]


@dataclass(frozen=True, slots=True)
class Expired:
    """A message whose holder has not renewed its lease; `held` is Kombu's record of it."""

    tag: str
    score: str
    held: bytes


class Scripts:
    """The scripts on one client. Every method is one round trip and raises RedisError."""

    def __init__(self, client: Redis, keys: BrokerKeys) -> None:
        self._client = client
        self._keys = keys

    def acknowledge(self, tags: Sequence[str]) -> list[str]:
        """Forget held messages; the tags among them that were no longer held."""
        return [text(tag) for tag in self._run("ack", self._keys.in_flight, tags)]

    def renew(self, tags: Sequence[str]) -> list[str]:
        """Renew leases; the tags that are no longer held."""
        return [text(tag) for tag in self._run("renew", self._keys.in_flight, tags)]

    def expired(
        self, lease: float, stock: float, *, outage: float, limit: int, known: Collection[str] = ()
    ) -> list[Expired]:
        """What nobody has renewed for `lease` seconds (`stock` seconds for stock workers).

        Where the holder's lease is longer, that one counts. Nothing, for a lease after nobody has
        asked for `outage` seconds. `known` tags are left out.
        """
        keys = [*self._keys.in_flight, self._keys.sweeps]
        flat = self._run("expired", keys, [lease, stock, limit, outage, *known])
        return [Expired(text(tag), text(score), held) for tag, score, held in _groups(flat, 3)]

    def claim(self, tag: str, highest: str) -> str | None:
        """Hold what nobody held any more: its score then; None if somebody does, or moved it."""
        score = self._run("claim", self._keys.in_flight, [tag, highest])
        return None if score is None else text(score)

    def records(self, tags: Sequence[str]) -> list[bytes | None]:
        """Kombu's records of held messages: JSON arrays [message, exchange, routing key]."""
        found: Any = self._client.hmget(self._keys.in_flight[0], tags) if tags else []
        return list(found)

    def bound_queue(self, exchange: str, routing_key: str) -> str | None:
        """The queue that Kombu's table binds to an exchange under exactly this key."""
        members: Any = self._client.smembers(self._keys.bindings_of(exchange))
        for member in sorted(text(part) for part in members):
            key, _, queue = member.split("\x06\x16", 2)
            if key == routing_key:
                return queue
        return None

    def restore(self, tag: str, highest: str, list_: str, message: str, *, first: bool) -> bool:
        """Move a held message back to a list, to its head if `first`; false if it was not ours."""
        keys = [*self._keys.in_flight, self._keys.list_of(list_)]
        push = "RPUSH" if first else "LPUSH"
        return bool(self._run("restore", keys, [tag, highest, message, push]))

    def bury(self, held: Held, highest: str, reason: str, deliveries: int) -> bool:
        """Move a held message to its queue's dead letters; false if it was not ours."""
        keys = [*self._keys.in_flight, self._keys.dead_letters_of(held.queue)]
        arguments = [held.tag, highest, held.item, held.queue, reason, deliveries]
        return bool(self._run("bury", keys, arguments))

    def put(self, tag: str, queue: str, list_: str, message: str, *, remember: int) -> bool:
        """Publish a message unless a publish with this tag was seen; whether it was new."""
        keys = [self._keys.publish_mark(tag, queue), self._keys.list_of(list_)]
        return bool(self._run("put", keys, [message, remember]))

    def take(self, request: "Take") -> "Taken":
        """Take messages without waiting."""
        arguments = request.arguments()
        keys, rest = arguments[1 : 1 + arguments[0]], arguments[1 + arguments[0] :]
        return Taken.read(self._run("take", keys, rest), request)

    def _run(self, name: str, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        given = [_bytes(argument) for argument in arguments]
        return script(name).run_blocking(self._client, keys, given)


@dataclass(frozen=True, slots=True)
class Take:
    """A wish for messages: from `lists` ((list, queue), best first), at most `free` of them.

    `acks` go along. `places` is how many waiters of a kind may stand at the door when there is
    nothing to take; 0 asks not to wait. What is taken is held for `lease` seconds.
    """

    keys: BrokerKeys
    group: str
    lists: tuple[tuple[str, str], ...]
    free: int
    longest: int
    lease: float
    acks: tuple[str, ...] = ()
    me: str = ""
    places: int = 0
    stay: float = 1.0

    def arguments(self) -> list[Any]:
        """What EVAL takes after the script: the number of keys, the keys, the arguments."""
        keys = [*self.keys.in_flight, *self.keys.waiters_of(self.group)]
        keys += [self.keys.list_of(list_) for list_, _ in self.lists]
        asked = [self.free, self.longest, self.me, self.places, self.stay, self.lease]
        queues = (queue for _, queue in self.lists)
        return [len(keys), *keys, *asked, len(self.acks), *self.acks, *queues]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take brought: held messages (queue, tag, bytes), and `unusable` ones with the reason.

    `carried` are the acks that it delivered, `late` those among them that were not held any more.
    """

    verdict: str
    carried: tuple[str, ...]
    late: tuple[str, ...]
    messages: tuple[tuple[str, str, bytes], ...]
    unusable: tuple[tuple[str, str, bytes, str], ...]

    @classmethod
    def read(cls, reply: Any, request: Take) -> "Taken":
        """Decode the script's answer."""
        verdict, late, taken, unusable = reply
        queues = [queue for _, queue in request.lists]
        return cls(
            verdict=text(verdict),
            carried=request.acks,
            late=tuple(text(tag) for tag in late),
            messages=tuple((queues[i - 1], text(tag), item) for i, tag, item in _groups(taken, 3)),
            unusable=tuple(
                (queues[i - 1], text(tag), item, text(reason))
                for i, tag, item, reason in _groups(unusable, 4)
            ),
        )


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * size, strict=True)


def _bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def text(value: bytes | str) -> str:
    """Redis's answer as text; bytes that are not UTF-8 survive the way back."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
