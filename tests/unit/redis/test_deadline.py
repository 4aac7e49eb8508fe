"""A deadline is a TimeoutError on every Python, whatever its task went through before."""

import asyncio
import time
from contextlib import suppress

import pytest

from service.redis.deadline import Deadline, SharedDeadline


async def test_it_is_a_timeout() -> None:
    """And only where the time is over."""
    with pytest.raises(TimeoutError):
        async with Deadline(0.01):
            await asyncio.sleep(10)
    async with Deadline(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["cancelled", "task group"])
async def test_it_is_one_in_a_task_with_a_cancellation_counted(how: str) -> None:
    """As after a TaskGroup that failed while it was being left; `asyncio.timeout` of 3.11.2 fails.

    CancelledError would end whoever waits, and no one would catch it as a timeout.
    """

    async def fail() -> None:
        raise OSError

    async def wait() -> str:
        try:
            if how == "cancelled":
                await asyncio.sleep(10)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
        except* (asyncio.CancelledError, OSError):
            pass
        try:
            async with Deadline(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            return "timeout"
        return "no timeout"

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if how == "cancelled":
        waiting.cancel()
    assert await waiting == "timeout"


async def test_a_cancellation_stays_one() -> None:
    """Also one that comes together with the end of the time."""

    async def wait() -> None:
        async with Deadline(0.01):
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_later(0, task.cancel)
            try:
                await asyncio.sleep(10)
            finally:
                time.sleep(0.02)  # noqa: ASYNC251  the time is over before the block is left
                await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await wait()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancellation_that_was_lost_inside_is_raised_at_the_end(*, fails: bool) -> None:
    """As `asyncio.wait_for` loses it on Python 3.11, where what it waits for ends meanwhile.

    Else who tries again after every error of Redis would never end.
    """
    waits = asyncio.Event()

    async def lose() -> None:
        async with Deadline(30):
            waits.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            if fails:
                raise ConnectionError

    task = asyncio.create_task(lose())
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_shares_a_deadline_ends_in_time() -> None:
    """With the error of each; what is done, or cancelled, is left alone."""
    loop, deadline = asyncio.get_running_loop(), SharedDeadline(0.05)
    done, cancelled, *late = [loop.create_future() for _ in range(100)]
    for number, future in enumerate((done, cancelled, *late)):
        deadline.add(future, lambda number=number: TimeoutError(number))  # type: ignore[misc]
    done.set_result("done")
    cancelled.cancel()
    await asyncio.wait(late)
    assert [str(future.exception()) for future in late] == [str(n) for n in range(2, 100)]
    assert await done == "done"
    again = loop.create_future()
    deadline.add(again, TimeoutError)
    with pytest.raises(TimeoutError):
        await again


def test_a_shared_deadline_goes_on_with_the_next_loop() -> None:
    """Else nothing would end there, as the timer of the loop before never comes."""
    deadline = SharedDeadline(0.05)

    async def end(*, waits: bool) -> None:
        future = asyncio.get_running_loop().create_future()
        deadline.add(future, TimeoutError)
        if waits:
            await future

    asyncio.run(end(waits=False))
    with pytest.raises(TimeoutError):
        asyncio.run(end(waits=True))


async def test_what_a_shared_deadline_ends_does_not_hold_the_loop() -> None:
    """Those who wait raise errors: others get their turn between some and the next."""
    loop, deadline = asyncio.get_running_loop(), SharedDeadline(0.01)
    futures = [loop.create_future() for _ in range(100)]
    for future in futures:
        deadline.add(future, TimeoutError)
    time.sleep(0.02)  # noqa: ASYNC251  the time of all is over
    most = ended = 0
    while ended < len(futures):
        await asyncio.sleep(0)
        before, ended = ended, sum(future.done() for future in futures)
        most = max(most, ended - before)
    assert 0 < most <= 20
    for future in futures:
        future.exception()
