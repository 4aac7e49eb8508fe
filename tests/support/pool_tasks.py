"""Tasks that try what the asyncio pool promises; loaded through SERVICE_TASK_MODULES."""

import asyncio
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from celery.exceptions import Ignore, Reject
from quart import current_app

from service import TaskBlueprint, current_job, get_celery, report_progress
from service.errors import BrokerUnavailableError
from tests.support.sample_tasks import gate, note

tasks = TaskBlueprint("pool")


@tasks.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@tasks.task
async def wait_at_gate(name: str) -> str:
    """Hold the body until the test opens the gate, and say so before and after."""
    note(f"started {current_job.id}")
    try:
        await asyncio.to_thread(gate, name)
    finally:
        note(f"left {current_job.id}")
    return name


@tasks.task
async def sleep_long() -> None:
    note(f"started {current_job.id}")
    try:
        await asyncio.sleep(300)
    finally:
        await asyncio.sleep(0)  # a clean-up may wait
        note(f"cleaned {current_job.id} {current_app.config['TEST_FOR_APP_CONTEXT']}")


@tasks.task
async def time_cancellation() -> None:
    """Note when the cancellation arrives, by the clock that all processes share."""
    note(f"started {current_job.id}")
    try:
        await asyncio.sleep(300)
    finally:
        note(f"cancelled {current_job.id} at {time.monotonic()}")


_colour: ContextVar[str] = ContextVar("colour", default="none")


@tasks.task
async def leave_colour(at: str) -> None:
    _colour.set("red")
    await asyncio.to_thread(gate, at)


@tasks.task
async def find_colour() -> str:
    return _colour.get()


@tasks.task
async def ignore_cancellation() -> None:
    note(f"started {current_job.id}")
    while True:
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            note(f"ignored {current_job.id}")


@tasks.task(time_limit=0.5)
async def ignore_hard_limit() -> None:
    while True:
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            note(f"ignored {current_job.id}")


@tasks.task(acks_late=False)
async def sleep_long_acknowledged() -> None:
    note(f"started {current_job.id}")
    await asyncio.sleep(300)


@tasks.task
def hang_in_thread(name: str) -> None:
    note(f"started {current_job.id}")
    gate(name)


def _note_failure(self: Any, error: BaseException, job_id: str, *_: Any) -> None:
    note(
        f"on_failure {job_id} {type(error).__name__} {self.request.id}"
        f" {current_app.config['TEST_FOR_APP_CONTEXT']}"
    )


@tasks.task(time_limit=0.5, on_failure=_note_failure)
async def over_hard_limit() -> None:
    try:
        await asyncio.sleep(300)
    finally:
        note(f"cleaned {current_job.id}")


def _fail(*_: Any) -> None:
    raise RuntimeError("the hook fails")


@tasks.task(time_limit=0.5, on_failure=_fail)
async def over_hard_limit_with_a_bad_hook() -> None:
    await asyncio.sleep(300)


def _miss_redis(*_: Any) -> None:
    raise BrokerUnavailableError("the hook could not enqueue")


@tasks.task(time_limit=0.5, on_failure=_miss_redis)
async def over_hard_limit_with_a_hook_without_redis() -> None:
    await asyncio.sleep(300)


async def _ignore_its_end(*_: Any) -> None:
    while True:
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            continue


def _hang(*_: Any) -> None:
    gate("hook")


@tasks.task(time_limit=0.5, on_success=_ignore_its_end)
async def succeed_with_a_stubborn_hook() -> int:
    return 42


@tasks.task(time_limit=0.5, on_success=_hang)
async def succeed_with_a_hook_that_hangs() -> int:
    return 42


@tasks.task(soft_time_limit=2, time_limit=3)
async def end_before_its_limits(at: str) -> int:
    note(f"started {current_job.id}")
    await asyncio.to_thread(gate, at)
    report_progress(1, 1)
    note(f"left {current_job.id}")
    return 42


@tasks.task(soft_time_limit=0.5, time_limit=5)
async def over_soft_limit_after_another_task() -> None:
    celery = get_celery(current_app._get_current_object())  # type: ignore[attr-defined]
    celery.tasks["pool.nap"].apply((0.0,))
    await asyncio.sleep(300)


async def _linger(*_: Any) -> None:
    await asyncio.sleep(300)


@tasks.task(bind=True, time_limit=0.5, on_retry=_linger)
async def retry_with_a_slow_hook(self: Any) -> int:
    if not self.request.retries:
        raise self.retry(countdown=0)
    return 42


@tasks.task(time_limit=0.5)
def over_hard_limit_in_thread(name: str) -> None:
    gate(name)


@tasks.task
async def block_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  it is what the test is about


@tasks.task
async def child_blocks_loop(seconds: float) -> None:
    async def child() -> None:
        time.sleep(seconds)  # noqa: ASYNC251  it is what the test is about

    await asyncio.gather(child())


@tasks.task
async def send_while_redis_is_frozen(at: str) -> float:
    return await _longest_stall(at)


@tasks.task
async def child_sends_while_redis_is_frozen(at: str) -> float:
    (stall,) = await asyncio.gather(_longest_stall(at))
    return stall


async def _longest_stall(at: str) -> float:
    """The longest time without a turn of the loop, as a share of that which `.delay()` took."""
    gaps: list[float] = []

    async def turn() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    turning = asyncio.create_task(turn())
    note(f"started {current_job.id}")
    await asyncio.to_thread(gate, at)
    gaps.clear()
    began = time.monotonic()
    nap.delay(0.0)
    took = time.monotonic() - began
    note(f"sent {current_job.id}")
    turning.cancel()
    return max(gaps) / took


@tasks.task(bind=True)
def set_state_and_wait(self: Any, at: str) -> None:
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
    note(f"set {current_job.id}")
    gate(at)


@tasks.task
async def report_not_a_number() -> int:
    report_progress(float("nan"), 10)
    return 1


@tasks.task
async def fail_with_not_a_number() -> None:
    raise ValueError("bad", float("nan"))


@tasks.task(show_arguments=True)
async def take_not_a_number(limit: float = float("inf")) -> bool:
    return limit > 0


@tasks.task
async def note_value(value: float) -> None:
    note(f"got {value}")


@tasks.task
async def give_not_a_number() -> float:
    return float("nan")


@tasks.task
def give_not_a_number_in_thread() -> dict[str, list[float]]:
    return {"values": [1.0, float("inf")]}


@tasks.task
async def give_much(size: int) -> str:
    return "x" * size


@tasks.task
async def fail_with_much(size: int) -> None:
    raise ValueError("x" * size)


@tasks.task
async def mixed(kind: str, number: int) -> int:
    """One of many unlike jobs of the stress test."""
    report_progress(number, 5000, kind)
    if kind == "sleeping":
        await asyncio.sleep(0.05)
    if kind == "failing":
        raise ValueError(number)
    return number


@tasks.task
def mixed_in_thread(number: int) -> int:
    assert current_job.id
    return number


@tasks.task(bind=True, max_retries=1, default_retry_delay=0)
async def mixed_retried(self: Any, number: int) -> int:
    if self.request.retries == 0:
        raise self.retry()
    return number


@tasks.task(bind=True)
async def replaced(self: Any, number: int) -> int:
    raise self.replace(mixed.s("replacing", number))


@tasks.task
async def ignored() -> None:
    note(f"ignored {current_job.id}")
    raise Ignore


@tasks.task
async def rejected() -> None:
    raise Reject("never", requeue=False)


@tasks.task
def rejected_once(marker: str) -> str:
    """Give the message back the first time."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        raise Reject("not yet", requeue=True)
    return "the second time"


@tasks.task(bind=True)
async def report_late(self: Any) -> str:
    """A report that comes after the end must not be seen."""
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 1, "note": "by hand"})
    return str(self.request.id)
