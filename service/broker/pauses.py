"""Pauses queues: no worker of ours takes from one of these until it is resumed.

take.lua looks at the pauses whenever a worker takes, so every worker knows at once. What a worker
has taken before still runs.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from service.redis.keys import BrokerKeys


class Pause(msgspec.Struct, frozen=True):
    """Who has paused a queue, when (in seconds since 1970) and why; the last may be empty."""

    by: str
    at: float
    why: str = ""


async def pause(client: Redis, keys: BrokerKeys, queue: str, *, by: str, why: str = "") -> None:
    """Pause a queue; one that is paused has another reason then. Raises RedisError."""
    redis: Any = client
    await redis.hset(keys.paused, queue, msgspec.json.encode(Pause(by, time.time(), why)))


async def resume(client: Redis, keys: BrokerKeys, queue: str) -> bool:
    """Resume a queue; whether it was paused. Raises RedisError."""
    redis: Any = client
    return bool(await redis.hdel(keys.paused, queue))


def read_pauses(stored: Mapping[bytes, bytes]) -> dict[str, Pause]:
    """The pauses by queue, of what Redis has; one that cannot be read is still a pause."""
    found: dict[str, Pause] = {}
    for queue, data in stored.items():
        try:
            one = msgspec.json.decode(data, type=Pause)
        except msgspec.MsgspecError:
            one = Pause("somebody", 0.0)
        found[queue.decode(errors="replace")] = one
    return found
