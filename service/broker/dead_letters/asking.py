"""Lets what is to be asked of Redis be written once, for synchronous and for asyncio clients.

It is written as a generator that yields questions and is sent the answers.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A command, and whether it is for the Redis of the results or for that of the broker."""

    words: tuple[Any, ...]
    of_results: bool


Asking = Generator[Question, Any, T]


def of_broker(*words: Any) -> Question:
    """A command for the broker's Redis."""
    return Question(words, of_results=False)


def of_results(*words: Any) -> Question:
    """A command for the Redis that has the results."""
    return Question(words, of_results=True)


def ask(asking: Asking[T], *, broker: Redis, results: Redis) -> T:
    """Ask on synchronous clients. Raises RedisError."""
    answer: Any = None
    while True:
        try:
            question = asking.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        client = results if question.of_results else broker
        answer = client.execute_command(*question.words)  # type: ignore[no-untyped-call]  # by redis-py


async def ask_async(asking: Asking[T], *, broker: AsyncRedis, results: AsyncRedis) -> T:
    """Ask on asyncio clients. Raises RedisError."""
    answer: Any = None
    while True:
        try:
            question = asking.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        client = results if question.of_results else broker
        answer = await client.execute_command(*question.words)  # type: ignore[no-untyped-call]  # by redis-py
