"""Runs the broker's Lua scripts: one for each step on deliveries that must be atomic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from service.broker.delivery import Delivery, Unusable
from service.broker.pauses import read_paused_lists
from service.redis.keys import BrokerKeys
from service.redis.script import Script

_NAMES: Final = ("ack", "renew", "expired", "claim", "take", "put", "replay", "restore", "bury")
_LEANS_ON: Final = {
    "ack": ("forget",),
    "take": ("forget",),
    "restore": ("move",),
    "bury": ("dead_letter", "move"),
}
_SCRIPTS: Final = {
    name: Script.load("service.broker.lua", *_LEANS_ON.get(name, ()), name) for name in _NAMES
}
_MAX_ACTIVE: Final = 2  # waiters of a group; why: see transport/waiter.py
_ACTIVE_TTL: Final = 3.5  # seconds
_REMEMBER_PUBLISH: Final = 120  # seconds: longer than any client goes on trying


def script(name: str) -> Script:
    """The script of `<name>.lua`."""
    return _SCRIPTS[name]


@dataclass(frozen=True, slots=True)
class Expired:
    """A delivery whose holder has not renewed its lease; `record` is Kombu's record of it."""

    tag: str
    score: str
    record: bytes


@dataclass(frozen=True, slots=True)
class ExpiredPage:
    """What one look at a part of the index has found.

    `stay` is how many entries it has looked at that are in the index still.
    """

    found: tuple[Expired, ...]
    stay: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class Move:
    """A wish to move a delivery's message to a list, to its head if `first`.

    Not if the delivery's score is above `max_score` ('+inf': whatever it is).
    """

    tag: str
    max_score: str
    list_: str
    message: str
    first: bool


class QueueList(NamedTuple):
    """A list that messages are taken from, and its queue. Made for each take, so a plain tuple."""

    name: str
    queue: str


@dataclass(frozen=True, slots=True)
class Take:
    """A wish for messages: from `lists` (best first), at most `free` of them.

    What is taken is held for `lease` seconds; a message of more than `max_bytes` (0: no limit) is
    unusable. `acks` go along. `waiter` is the id of whoever waits if there is nothing to take, and
    who holds `held` deliveries already; without `may_be_active` it is known not to be active.
    """

    keys: BrokerKeys
    lists: tuple[QueueList, ...]
    free: int
    max_bytes: int
    lease: float
    acks: tuple[str, ...] = ()
    waiter: str = ""
    held: int = 0
    may_be_active: bool = True

    @property
    def waiters(self) -> list[str]:
        """The keys of the waiters that take from the same lists, in whatever order."""
        names = "\n".join(sorted(each.name for each in self.lists))
        group = sha1(names.encode()).hexdigest()[:12]  # noqa: S324 - a name, not a secret
        return self.keys.waiters_of(group)

    def call(self) -> tuple[list[str], list[Any]]:
        """The script's KEYS and ARGV."""
        lists = (self.keys.list_of(each.name) for each in self.lists)
        queues = (each.queue for each in self.lists)
        max_active = _MAX_ACTIVE if self.waiter else 0
        asked = [self.free, self.max_bytes, self.waiter, max_active, _ACTIVE_TTL, self.lease]
        return (
            [*self.keys.in_flight, *self.waiters, *lists],
            [*asked, self.held, int(self.may_be_active), len(self.acks), *self.acks, *queues],
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take brought; `verdict` is 'taken', or what the waiter is now: 'active' or 'standby'.

    `carried` are the acks that it delivered, `late` those among them that were not held any more.
    `next_due` is in how many seconds the next scheduled job is due, for a waiter that is active.
    `look_again` is in how many seconds one on standby may find a place among the active ones.
    """

    verdict: str
    carried: tuple[str, ...]
    late: tuple[str, ...]
    deliveries: tuple[Delivery, ...]
    unusable: tuple[Unusable, ...]
    next_due: float | None = None
    look_again: float | None = None

    @classmethod
    def read(cls, reply: Any, request: Take) -> "Taken":
        """Decode the script's answer."""
        verdict, late, taken, unusable, due, next_due, look_again = reply
        queues, of_scheduled = [each.queue for each in request.lists], frozenset(due)
        deliveries = []
        for i, raw_tag, message in _groups(taken, 3):
            tag, is_due = text(raw_tag), raw_tag in of_scheduled
            ident = tag.rpartition("@")[0]
            deliveries.append(Delivery(tag, queues[i - 1], message, ident, is_due=is_due))
        return cls(
            verdict=text(verdict),
            carried=request.acks,
            late=tuple(text(tag) for tag in late),
            deliveries=tuple(deliveries),
            unusable=tuple(
                Unusable(Delivery(text(tag), queues[i - 1], message, text(tag)), text(reason))
                for i, tag, message, reason in _groups(unusable, 4)
            ),
            next_due=next_due / 1000 if next_due >= 0 else None,
            look_again=look_again / 1000 if look_again >= 0 else None,
        )


class Scripts:
    """The scripts on one client. Every method raises RedisError, and is one round trip, but for
    `drop_beside`, which is two."""

    def __init__(self, client: Redis, keys: BrokerKeys) -> None:
        self._client = client
        self.keys = keys

    def take(self, request: Take) -> Taken:
        """Take messages without waiting."""
        return Taken.read(self._run("take", *request.call()), request)

    def acknowledge(self, tags: Sequence[str]) -> list[str]:
        """Forget deliveries; the tags among them that were no longer held."""
        return [text(tag) for tag in self._run("ack", self.keys.in_flight, tags)]

    def renew(self, tags: Sequence[str]) -> list[str]:
        """Renew leases; the tags that are no longer held."""
        return [text(tag) for tag in self._run("renew", self.keys.in_flight, tags)]

    def expired(
        self, lease: float, stock: float, *, outage: float, start: int, limit: int
    ) -> ExpiredPage:
        """Deliveries not renewed for `lease` seconds (`stock` seconds for those of stock workers).

        Where the holder's lease is longer, that one counts. Nothing for a lease after `outage`
        seconds without any sweep. Looks at `limit` of the oldest leases after the first `start`.
        """
        keys = [*self.keys.in_flight, self.keys.sweeps]
        more, stay, *flat = self._run("expired", keys, [lease, stock, outage, start, limit])
        found = (Expired(text(tag), text(score), record) for tag, score, record in _groups(flat, 3))
        return ExpiredPage(tuple(found), stay, bool(more))

    def claim(self, tag: str, max_score: str) -> str | None:
        """Hold an expired delivery: its score then; None if it was renewed or moved meanwhile."""
        score = self._run("claim", self.keys.in_flight, [tag, max_score])
        return None if score is None else text(score)

    def records(self, tags: Sequence[str]) -> list[bytes | None]:
        """Kombu's records of deliveries: JSON arrays [message, exchange, routing key]."""
        found: Any = self._client.hmget(self.keys.in_flight[0], tags) if tags else []
        return list(found)

    def bound_queue(self, exchange: str, routing_key: str) -> str | None:
        """The queue that Kombu's table binds to an exchange under exactly this key."""
        members: Any = self._client.smembers(self.keys.bindings_of(exchange))
        bound = (text(part).split("\x06\x16", 2) for part in members)
        return min((queue for key, _, queue in bound if key == routing_key), default=None)

    def restore(self, moves: Sequence[Move]) -> list[bool | ResponseError]:
        """Move deliveries' messages; of each whether it was still held, or why it was refused."""
        keys = [*self.keys.in_flight, *(self.keys.list_of(move.list_) for move in moves)]
        arguments: list[str] = []
        for move in moves:
            push = "RPUSH" if move.first else "LPUSH"
            arguments += (move.tag, move.max_score, move.message, push)
        answers = self._run("restore", keys, arguments) if moves else []
        return [ResponseError(text(a)) if isinstance(a, bytes | str) else bool(a) for a in answers]

    def bury(self, delivery: Delivery, max_score: str, reason: str, deliveries: int) -> bool:
        """Move a delivery to its queue's dead letters; false if it was not ours."""
        tag, queue, message = delivery.tag, delivery.queue, delivery.message
        keys = [*self.keys.in_flight, self.keys.dead_letters_of(queue)]
        return bool(self._run("bury", keys, [tag, max_score, message, queue, reason, deliveries]))

    def put(
        self, tag: str, queue: str, list_: str, message: str, countdown: float | None = None
    ) -> bool:
        """Publish a message unless a publish with this tag was seen; whether it was new.

        With a countdown (seconds) it says when it is due by the server's clock.
        """
        keys = [self.keys.publish_mark(tag, queue), self.keys.list_of(list_)]
        seconds = "" if countdown is None else countdown
        return bool(self._run("put", keys, [message, _REMEMBER_PUBLISH, seconds]))

    def drop_beside(self, queue: str) -> int:
        """Drop a queue's scheduled jobs, and what waits for a paused task; how many messages."""
        lists, scheduled = self.keys.lists_of(queue), self.keys.scheduled_of(queue)
        stored: Any = self._client.hgetall(self.keys.paused_lists)
        paused = [e.key for e in read_paused_lists(self.keys, stored) if e.beside in lists]
        with self._client.pipeline() as pipe:
            for name in (*scheduled, *paused):
                (pipe.llen if name in paused else pipe.zcard)(name)
            pipe.delete(*scheduled, *paused)
            pipe.hdel(self.keys.paused_lists, "", *paused)  # it takes one name at least
            return sum(pipe.execute()[:-2])

    def _run(self, name: str, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        given = [
            each.encode("utf-8", "surrogateescape") if isinstance(each, str) else each
            for each in arguments
        ]
        return script(name).run_blocking(self._client, keys, given)


def _groups(flat: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip(*[iter(flat)] * size, strict=True)


def text(value: bytes | str) -> str:
    """Redis's answer as text; bytes that are not UTF-8 survive the way back."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
