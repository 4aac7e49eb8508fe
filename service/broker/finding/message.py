"""Finds the message of one job wherever it lies, for a person who looks at that job."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from service.broker import messages
from service.broker.pauses import read_paused_lists
from service.redis.keys import BrokerKeys
from service.redis.script import Script

_FIND: Final = Script.load("service.broker.finding", "find")
_HASTEN: Final = Script.load("service.broker.finding", "hasten")
_MOST: Final = 2_000  # messages of one place that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMessage:
    """A job's message, and where it lies: in a list, in a sorted set, or with a worker.

    `before` is how many messages of its list go first. `held_since` is when its lease was last
    renewed, and `due_at` when a scheduled one is to run, in seconds since 1970.
    """

    key: str
    list_: str  # where it waits, or would
    queue: str
    message: bytes
    payload: Mapping[str, Any]
    before: int | None = None
    held_since: float | None = None
    due_at: float | None = None

    @property
    def deliveries(self) -> int:
        """How often it was handed to a worker, the present delivery included."""
        return messages.deliveries(self.payload) + (self.held_since is not None)

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers of Celery's message."""
        found = self.payload.get("headers")
        return found if isinstance(found, dict) else {}

    @property
    def chain(self) -> list[tuple[str, str]]:
        """The task and the id of each job that is to follow in its chain, the next one first."""
        rest = messages.embedded(self.message).get("chain") or ()
        return [*reversed([*filter(None, map(_step, rest))])]


def _step(signature: Any) -> tuple[str, str] | None:
    if not isinstance(signature, dict):
        return None
    options = signature.get("options") or {}
    return str(signature.get("task")), str(options.get("task_id") or "")


async def find_message(
    client: Redis, keys: BrokerKeys, queues: Iterable[str], job_id: str
) -> FoundMessage | None:
    """The job's message; None if it is nowhere, or too far behind others. Raises RedisError."""
    redis: Any = client
    lists = {name: queue for queue in queues for name in keys.lists_of(queue)}
    stored: Any = await redis.hgetall(keys.paused_lists)
    of_paused = {each.key: each.beside for each in read_paused_lists(keys, stored)}
    places = [place for name in lists for place in (name, f"{name}.scheduled")]
    places += [key for key, beside in of_paused.items() if beside in lists]
    wanted = f'"id": {json.dumps(job_id)}'
    arguments = [wanted, _MOST, *keys.in_flight, *places]
    answer = await _FIND.run(client, [], arguments)
    if not answer:
        return None
    key, where, found, score = answer[0].decode(), answer[1], answer[2], answer[3]
    is_held = key == keys.in_flight[0]
    message, queue = found, ""
    try:
        if is_held:
            payload, _, queue = json.loads(found)
            message = json.dumps(payload).encode()
        payload = messages.read_plain(message)
    except ValueError:
        return None
    list_ = of_paused.get(key) or key.removesuffix(".scheduled")
    at = float(score) if score else None
    return FoundMessage(
        key=key,
        list_=list_,
        queue=queue or lists.get(list_, ""),
        message=message,
        payload=payload,
        before=int(where) if key in lists else None,
        held_since=at if is_held else None,
        due_at=None
        if is_held or key in of_paused
        else (at or payload.get("due") or messages.due(payload)),
    )


async def hasten(client: Redis, found: FoundMessage) -> bool:
    """Have a message that waits for its time be the next one of its list.

    False if it is not there any more. Raises RedisError.
    """
    payload = {name: value for name, value in found.payload.items() if name != "due"}
    headers = {**found.headers, "eta": None}
    message = json.dumps({**payload, "headers": headers})
    return bool(await _HASTEN.run(client, [found.key, found.list_], [found.message, message]))
