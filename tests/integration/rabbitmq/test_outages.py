"""RabbitMQ is killed, started anew, short of memory, or stands still; the web side goes on."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import BrokerUnavailableError
from tests.integration.rabbitmq.conftest import Broker, Serving
from tests.support.ports import free_port
from tests.support.rabbitmq import needs_rabbitmq, rabbitmq
from tests.support.sample_tasks import add
from tests.support.wait import wait_until_async

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.chaos,
    pytest.mark.timeout(180),
    needs_rabbitmq,
]


class Load:
    """Enqueues all the time; `accepted` has the moments at which jobs were accepted, by id."""

    def __init__(self) -> None:
        self.accepted: dict[str, float] = {}
        self.worst_lag = 0.0  # seconds that the event loop was away
        self._number = 0

    async def enqueue(self) -> None:
        """Enqueue a job, until it is accepted."""
        self._number += 1
        job_id = f"job-{self._number}"
        while True:
            try:
                await add.options(job_id=job_id).enqueue(1, 2)
            except BrokerUnavailableError:
                await asyncio.sleep(0.02)
            else:
                self.accepted[job_id] = time.monotonic()
                return

    async def run(self) -> None:
        """Enqueue one job after the other."""
        while True:
            await self.enqueue()
            await asyncio.sleep(0.005)

    async def watch_loop(self) -> None:
        """Note how late the event loop is."""
        while True:
            asked = time.monotonic()
            await asyncio.sleep(0.01)
            self.worst_lag = max(self.worst_lag, time.monotonic() - asked - 0.01)


@asynccontextmanager
async def load() -> AsyncIterator[Load]:
    """Four callers that enqueue."""
    made = Load()
    running = [asyncio.create_task(run()) for run in (*[made.run] * 4, made.watch_loop)]
    try:
        yield made
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


def ids_in(broker: Broker, queue: str) -> set[str]:
    """The ids of all jobs in a queue, which is empty then."""

    def take(channel: Any) -> set[str]:
        found = set()
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.add(message.headers["id"])
        return found

    found: set[str] = broker.with_channel(take)
    return found


async def accepted_again(made: Load) -> float:
    """The seconds until a job is accepted that is enqueued from now on."""
    began = time.monotonic()
    await made.enqueue()
    return time.monotonic() - began


async def test_a_server_that_stands_still_for_12_s_is_back_at_once(
    broker: Broker, serving: Serving
) -> None:
    """Nothing that was accepted is lost, and the loop has no burst to work off."""
    async with serving(), load() as made:
        await made.enqueue()
        with broker.frozen():
            await asyncio.sleep(12)
        seconds = await accepted_again(made)
        await asyncio.sleep(2)  # in which a burst would hold the loop
    assert seconds < 5
    assert made.worst_lag < 1
    assert made.accepted.keys() <= ids_in(broker, broker.queue)


async def test_a_server_that_is_killed_and_started_anew_is_found_again(
    serving: Serving, tmp_path: Path
) -> None:
    """Its queues are durable: what was accepted is there."""
    port, queue = free_port(), "kept"
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    settings = {"SERVICE_CELERY__BROKER_URL": url, "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue}
    with rabbitmq(tmp_path, port) as (process, _):
        async with serving(**settings), AsyncExitStack() as servers:
            async with load() as made:
                await made.enqueue()
                await asyncio.to_thread(process.kill)
                with pytest.raises(BrokerUnavailableError):
                    await add.enqueue(1, 2)
                again = await servers.enter_async_context(_started_anew(tmp_path, port))
                seconds = await accepted_again(made)
            found = await asyncio.to_thread(ids_in, again, queue)
    assert seconds < 5
    assert made.accepted.keys() <= found


async def test_a_server_short_of_memory_is_an_outage(serving: Serving, tmp_path: Path) -> None:
    """It takes what it is sent, and nothing more, until there is room: then it is sent no more."""
    port = free_port()
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    settings = {"SERVICE_CELERY__BROKER_URL": url, "SERVICE_ENQUEUE_TIMEOUT": "1"}
    with rabbitmq(tmp_path, port, vm_memory_high_watermark=0.0001):
        async with serving(**settings):

            async def is_known() -> bool:
                try:
                    await add.enqueue(1, 2)
                except BrokerUnavailableError as error:
                    return "short of memory or disk" in str(error) and not error.maybe_accepted
                return False

            await wait_until_async(is_known, description="the outage is known")


async def test_many_at_once_do_not_hold_the_loop_in_an_outage(
    broker: Broker, serving: Serving
) -> None:
    """By the processor time of the turn of the loop that takes longest."""
    async with serving(SERVICE_ENQUEUE_TIMEOUT="1"):
        await Load().enqueue()
        with broker.frozen():
            gc.freeze()  # or one look at all of the tests' objects is what takes longest
            try:
                unknown = await _longest_turn(_many)
                known = await _longest_turn(_many)
            finally:
                gc.unfreeze()
    assert known < 0.05
    assert unknown < 0.2


async def _many() -> None:
    jobs = (add.enqueue(1, 2) for _ in range(500))
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(each, BrokerUnavailableError) for each in outcomes)


async def _longest_turn(call: Callable[[], Awaitable[None]]) -> float:
    """The processor time, in seconds, of the longest turn of the loop."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    watching = asyncio.create_task(watch())
    await call()
    watching.cancel()
    await asyncio.wait([watching])
    return longest


@asynccontextmanager
async def _started_anew(folder: Path, port: int) -> AsyncIterator[Broker]:
    starting = rabbitmq(folder, port)
    process, url = await asyncio.to_thread(starting.__enter__)
    try:
        yield Broker(process, url)
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)
