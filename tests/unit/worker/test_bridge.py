"""The bridge: synchronous code that awaits, on a plain event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from service.worker.loop.bridge import (
    Bridge,
    BridgePhase,
    EndReason,
    SoftLimitCancelledError,
    await_,
    current_bridge,
)

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


def drive(body: Callable[[], Any]) -> Any:
    """What a job does with its body."""
    bridge = current_bridge()
    assert bridge is not None
    return bridge.await_body(body(), BridgePhase.COROUTINE)


async def begun(bridge: Bridge) -> "asyncio.Task[Any]":
    """The bridge as a task that has got as far as it can."""
    task = asyncio.create_task(bridge.run())
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_synchronous_code_awaits_and_others_run_meanwhile() -> None:
    """A thousand at once wait no longer than one."""

    def work(number: int) -> int:
        return await_(asyncio.sleep(0.05, number)) + await_(asyncio.sleep(0, 1))

    bridges = (Bridge(work, number).run() for number in range(1000))
    async with asyncio.timeout(5):
        assert sum(await asyncio.gather(*bridges)) == sum(range(1001))


async def test_a_coroutine_may_call_code_that_awaits() -> None:
    """As `.delay()` does inside an async body."""

    async def body() -> str:
        await asyncio.sleep(0)
        return await_(asyncio.sleep(0.01, "from inside"))

    assert await Bridge(drive, body).run() == "from inside"


async def test_the_context_is_one_on_both_sides() -> None:
    """What a body sets is seen after it, and by nobody else."""

    async def body() -> None:
        color.set("red")
        await asyncio.sleep(0)

    def work() -> str:
        drive(body)
        return color.get()

    assert await asyncio.create_task(Bridge(work).run()) == "red"
    assert color.get() == "none"


async def test_errors_pass_both_ways() -> None:
    """An awaited error is raised in the synchronous code, and its own in whoever awaits it."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("inner")

    def work() -> None:
        with pytest.raises(KeyError, match="inner"):
            drive(fail)
        raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        await Bridge(work).run()


def test_outside_of_a_bridge_awaiting_is_an_error() -> None:
    """It would have to block."""
    assert current_bridge() is None
    nap = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="outside of a bridge"):
        await_(nap)
    nap.close()


async def test_an_interruption_may_be_caught_and_the_body_go_on() -> None:
    """A soft limit asks; whoever catches it is not cancelled any more."""

    async def body() -> str:
        try:
            await asyncio.sleep(30)
        except SoftLimitCancelledError:
            await asyncio.sleep(0)
        return "cleaned up"

    bridge = Bridge(drive, body)
    task = await begun(bridge)
    assert bridge.interrupt(SoftLimitCancelledError(1))
    assert await task == "cleaned up"
    assert not task.cancelling()


async def test_an_interruption_reaches_a_body_that_waits_in_synchronous_code() -> None:
    """Inside of `.delay()`, say."""

    async def body() -> None:
        await_(asyncio.sleep(30))

    bridge = Bridge(drive, body)
    task = await begun(bridge)
    bridge.interrupt(SoftLimitCancelledError(1))
    with pytest.raises(SoftLimitCancelledError):
        await task


async def test_only_a_coroutine_body_is_interrupted() -> None:
    """Not the storing of its result, nor a thread that can't be told."""
    bridge = Bridge(lambda: await_(asyncio.sleep(0.01, "stored")))
    task = await begun(bridge)
    assert not bridge.interrupt(SoftLimitCancelledError(1))
    bridge.end(EndReason.CANCELLED)
    assert await task == "stored"
    assert bridge.end_reason is EndReason.CANCELLED


async def test_a_body_that_cleans_up_is_not_cancelled_again() -> None:
    """In a cold shutdown Celery cancels the jobs that run, and the pool gives them back."""
    cleaned: list[bool] = []

    async def body() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    bridge = Bridge(drive, body)
    task = await begun(bridge)
    bridge.end(EndReason.CANCELLED)
    await asyncio.sleep(0)
    bridge.end(EndReason.GIVEN_BACK, anywhere=True)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned
    assert bridge.end_reason is EndReason.GIVEN_BACK


async def test_aborting_ends_whatever_it_waits_for() -> None:
    """At the end of a worker's grace."""
    bridge = Bridge(lambda: await_(asyncio.sleep(30)))
    task = await begun(bridge)
    bridge.end(EndReason.GIVEN_BACK, anywhere=True)
    with pytest.raises(asyncio.CancelledError):
        await task
