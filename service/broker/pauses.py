"""Pauses queues and tasks: while one is paused, no worker of ours begins its jobs.

take.lua looks at the pauses whenever a worker takes, so every worker knows at once; the head of
that script says where the messages of a paused task go. What a worker has taken before still runs.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from service.errors import CannotPauseError
from service.redis.keys import BrokerKeys, broker_keys

CANNOT_PAUSE: Final = (
    "Queues and tasks can be paused only where the broker is a Redis, and workers take from it by"
    " the transport of this service."
)
MAX_PAUSED_TASKS: Final = 100  # each take looks at the lists of all of them
_OUR_TRANSPORTS: Final = "service.broker.transport:"


class Kind(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TASK = "task"


class Pause(msgspec.Struct, frozen=True):
    """A pause of a queue or a task: by whom, when (seconds since 1970) and why (may be empty)."""

    by: str
    at: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class PausedList:
    """A list of the messages of a paused task that were taken from the list `beside`."""

    key: str
    beside: str
    task: str


async def pause(  # noqa: PLR0913  the last two by name
    client: Redis, celery: Mapping[str, Any], kind: Kind, name: str, *, by: str, why: str = ""
) -> None:
    """Pause a queue or a task; one that is paused has another reason then.

    `celery` is Celery's configuration. Raises CannotPauseError and RedisError.
    """
    redis: Any = client
    pauses = _pauses(celery, kind)
    is_full = kind is Kind.TASK and await redis.hlen(pauses) >= MAX_PAUSED_TASKS
    if is_full and await redis.hget(pauses, name) is None:
        raise CannotPauseError(
            f"{MAX_PAUSED_TASKS} tasks are paused, as many as can be. Resume some, or pause queues."
        )
    await redis.hset(pauses, name, msgspec.json.encode(Pause(by, time.time(), why)))


async def resume(client: Redis, celery: Mapping[str, Any], kind: Kind, name: str) -> bool:
    """Resume a queue or a task; whether it was paused. Raises CannotPauseError and RedisError."""
    redis: Any = client
    return bool(await redis.hdel(_pauses(celery, kind), name))


def can_pause(celery: Mapping[str, Any]) -> bool:
    """Whether workers take by our transport, which alone looks at pauses.

    `celery` is Celery's configuration.
    """
    return str(celery["broker_transport"]).startswith(_OUR_TRANSPORTS)


def _pauses(celery: Mapping[str, Any], kind: Kind) -> str:
    if not can_pause(celery):
        raise CannotPauseError(CANNOT_PAUSE)
    keys = broker_keys(celery)
    return keys.paused_queues if kind is Kind.QUEUE else keys.paused_tasks


def read_pauses(stored: Mapping[bytes, bytes]) -> dict[str, Pause]:
    """The pauses by name, of what Redis has; one that cannot be read is still a pause."""
    found: dict[str, Pause] = {}
    for name, data in stored.items():
        try:
            one = msgspec.json.decode(data, type=Pause)
        except msgspec.MsgspecError:
            one = Pause("somebody", 0.0)
        found[name.decode(errors="replace")] = one
    return found


def read_paused_lists(keys: BrokerKeys, stored: Mapping[bytes, bytes]) -> Iterator[PausedList]:
    """The lists of paused tasks, and of resumed ones that are not empty yet."""
    for key, beside in stored.items():
        name, list_ = (each.decode("utf-8", "surrogateescape") for each in (key, beside))
        yield PausedList(name, list_, name.removeprefix(keys.list_of_paused(list_, "")))
