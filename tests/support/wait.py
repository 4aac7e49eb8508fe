"""Waits for a condition instead of for a while."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, TypeVar, overload

T = TypeVar("T")

_PAUSE: Final = 0.02
# For what comes soon. Only who waits in vain notices how long it is: a test that fails.
PATIENCE: Final = 45.0


def wait_until(predicate: Callable[[], T], *, timeout: float = PATIENCE, description: str) -> T:
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
    predicate: Callable[[], Awaitable[T]], *, timeout: float = PATIENCE, description: str
) -> T: ...
@overload
async def wait_until_async(
    predicate: Callable[[], T], *, timeout: float = PATIENCE, description: str
) -> T: ...
async def wait_until_async(
    predicate: Callable[[], object], *, timeout: float = PATIENCE, description: str
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


async def within_twice(seconds: float, call: Coroutine[object, object, T]) -> T:
    """What the call gives, or raises, if it ends before two waits of so many seconds are over.

    For a call that itself has a timeout of so many: the second wait begins when the first is over,
    by the same loop, so that both are late where the machine stands still.
    """
    calling = asyncio.create_task(call)
    for _ in range(2):
        await asyncio.wait([calling], timeout=seconds)
    if not calling.done():
        calling.cancel()
        raise AssertionError(f"After twice {seconds:g} s still not: the call has ended")
    return calling.result()
