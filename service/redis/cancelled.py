"""Has a cancelled job be taken at once, where its message waits in the broker's Redis.

Its worker does not run it, but ends what waits for it: a chord, or the rest of a chain.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from redis.asyncio import Redis

from service.redis.keys import BrokerKeys

_MAX_SCAN: Final = 1000  # jobs that are looked at in one step, about a millisecond long
_MOST_PAUSED: Final = 20_000  # jobs of a list that are looked at
_DAY: Final = 86_400


async def make_due(
    client: Redis, keys: BrokerKeys, queues: Iterable[str], job_id: str, *, kept: int
) -> None:
    """Have a scheduled job be due, which waits in one of these queues. Raises RedisError.

    It is looked for among the scheduled jobs of all of them, which takes a millisecond for each
    thousand; a mark, `kept` for so many seconds, tells of it where no worker has found yet that it
    is scheduled.
    """
    await client.set(keys.cancelled(job_id), 1, ex=kept)
    for key in chain.from_iterable(map(keys.scheduled_of, queues)):
        scan: Any = client.zscan_iter(key, match=f'*"id": "{job_id}"*', count=_MAX_SCAN)
        async for message, _ in scan:
            await client.zadd(key, {message: 0}, xx=True)


async def release(client: Redis, keys: BrokerKeys, job_id: str, *, kept: int) -> None:
    """Have a job be taken although its task or its queue may be paused. Raises RedisError.

    Its message is looked for among the first that wait for what is paused; `kept` is as above.
    """
    redis: Any = client
    if not await redis.exists(keys.paused_queues, keys.paused_tasks, keys.paused_lists):
        return
    mark = keys.cancelled(job_id)
    await redis.set(mark, 1, ex=kept)  # for a take that finds it in the list of its queue
    stored = await redis.hgetall(keys.paused_lists)
    places = {_name(each): _name(beside) for each, beside in stored.items()}
    for queue in await redis.hgetall(keys.paused_queues):
        places |= {name: name for name in keys.lists_of(_name(queue))}
    for place, list_ in places.items():
        if (message := await _message_of(redis, place, f'"id": "{job_id}"'.encode())) is not None:
            released = keys.list_of_paused(list_, "")
            async with redis.pipeline() as pipe:
                pipe.hset(keys.paused_lists, released, list_).lpush(released, message)
                await pipe.lrem(place, -1, message).expire(mark, _DAY).execute()
            return


def _name(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


async def _message_of(redis: Any, place: str, wanted: bytes) -> bytes | None:
    """The first message with these bytes, of those of the list that are looked at."""
    for last in range(-1, -_MOST_PAUSED, -_MAX_SCAN):
        page: list[bytes] = await redis.lrange(place, last + 1 - _MAX_SCAN, last)
        for message in reversed(page):
            if wanted in message:
                return message
        if len(page) < _MAX_SCAN:
            break
    return None
