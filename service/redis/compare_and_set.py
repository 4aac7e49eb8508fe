"""Changes a record only while it is what it was: the one way to change what others may change."""

from typing import Final

from redis.asyncio import Redis

from service.redis.script import Script

COMPARE_AND_SET: Final = Script.load("service.redis", "compare_and_set")


async def compare_and_set(  # noqa: PLR0913  the last two by name
    client: Redis,
    key: str,
    before: bytes | str,
    after: bytes | str,
    *,
    ttl: int | None = None,
    publish: bool = False,
) -> bool:
    """Store `after` if `before` is stored; whether it was. Empty text stands for no record.

    `ttl` is in seconds; None keeps the one that the record has. `publish` tells those who follow
    the record. Raises RedisError.
    """
    arguments = (before, after, "" if ttl is None else ttl, "1" if publish else "")
    return bool(await COMPARE_AND_SET.run(client, [key], arguments))
