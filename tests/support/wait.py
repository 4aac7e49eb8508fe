"""Waits for a condition instead of for a while."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, overload

T = TypeVar("T")

_PAUSE: Final = 0.02


def wait_until(predicate: Callable[[], T], *, timeout: float = 10, description: str) -> T:
    """Return the first true value of `predicate`, or fail saying that `description` did not come.

    `timeout` is in seconds; `description` completes the sentence "still not: ...".
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"After {timeout:g} s still not: {description}")
        time.sleep(_PAUSE)


def let_pass(seconds: float) -> None:
    """Let time pass, where that it does is the very thing that is tested."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, timeout=seconds + 5, description="it is over")


@overload
async def wait_until_async(
    predicate: Callable[[], Awaitable[T]], *, timeout: float = 10, description: str
) -> T: ...
@overload
async def wait_until_async(
    predicate: Callable[[], T], *, timeout: float = 10, description: str
) -> T: ...
async def wait_until_async(
    predicate: Callable[[], object], *, timeout: float = 10, description: str
) -> object:
    """The same for async tests; `predicate` may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"After {timeout:g} s still not: {description}")
        await asyncio.sleep(_PAUSE)
