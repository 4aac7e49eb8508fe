"""Many waiters, one connection, and no change missed."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from quart import Quart
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from service import create_app
from service.errors import (
    InvalidJobIdError,
    ResultsUnavailableError,
    ResultTimeoutError,
    TooManyWaitersError,
    UnknownJobError,
)
from service.parts import parts_of
from service.results.watcher import Watcher
from tests.support.records import publish
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

TIMEOUT = 0.5


@pytest.fixture
async def app(own_valkey: Valkey) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": own_valkey.url,
            "SERVICE_REDIS_TIMEOUT": TIMEOUT,
            "SERVICE_MAX_WAITERS": 50,
        }
    )
    async with app.test_app():
        yield app


@pytest.fixture
def watcher(app: Quart) -> Watcher:
    return parts_of(app).watcher


def subscriptions(valkey: Valkey) -> int:
    with valkey.client() as redis:
        return len(redis.pubsub_channels())


async def test_each_waiter_sees_each_change_in_order(watcher: Watcher, own_valkey: Valkey) -> None:
    """From the record that was there when it began, on one connection for all."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        watches = [await watcher.watch("one") for _ in range(20)]
        pubsubs = [c for c in redis.client_list() if int(c["sub"])]
        assert len(pubsubs) == 1
        for state in ("STARTED", "PROGRESS", "SUCCESS"):
            publish(redis, "one", state)
        for watch in watches:
            assert watch.result.state == "QUEUED"
            for state in ("STARTED", "PROGRESS", "SUCCESS"):
                assert await watch.change(5)
                assert watch.result.state == state
            watch.close()
    await wait_until_async(lambda: subscriptions(own_valkey) == 0, description="no subscription")


async def test_the_same_record_again_is_no_change(watcher: Watcher, own_valkey: Valkey) -> None:
    """A worker may store what is there already."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        watch = await watcher.watch("one")
        publish(redis, "one", "QUEUED")
        assert not await watch.change(0.1)
        watch.close()


async def test_no_result_is_missed_between_reading_and_waiting(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """Whenever the worker is done in between."""

    async def one(number: int) -> str:
        job_id = f"job-{number}"
        with own_valkey.client() as redis:
            publish(redis, job_id, "QUEUED")
            waiting = asyncio.create_task(watcher.wait(job_id, 10))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            publish(redis, job_id, "SUCCESS", result=number)
        return str((await waiting).result)

    numbers = range(40)
    assert await asyncio.gather(*map(one, numbers)) == [str(number) for number in numbers]


@pytest.mark.parametrize("fault", ["restart", "connection"])
async def test_a_change_during_a_loss_of_the_connection_is_told(
    watcher: Watcher, own_valkey: Valkey, fault: str
) -> None:
    """The connection is made again, and every job that is waited for is read again."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    waiting = [asyncio.create_task(watcher.wait("one", 20)) for _ in range(3)]
    await wait_until_async(lambda: subscriptions(own_valkey) == 1, description="a subscription")
    if fault == "restart":
        await asyncio.to_thread(own_valkey.restart)
        with own_valkey.client() as redis:
            publish(redis, "one", "SUCCESS", result=1)
    else:
        with own_valkey.client() as redis:
            pipeline = redis.pipeline(transaction=True)
            pipeline.client_kill_filter(_type="pubsub")
            publish(pipeline, "one", "SUCCESS", result=1)
            pipeline.execute()
    assert [(await each).result for each in waiting] == [1, 1, 1]


async def test_a_silent_redis_is_an_error_within_the_timeout(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """For a new waiter; one that waits already goes on, and is told at the end of its time.

    "Within" by what one command with the same timeout takes: to be silent twice would be double.
    """
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        publish(redis, "two", "QUEUED")
    early = await watcher.watch("one")
    own_valkey.freeze()
    began = time.monotonic()
    async with Redis.from_url(own_valkey.url, socket_timeout=TIMEOUT, retry=None) as client:
        with pytest.raises(RedisTimeoutError):
            await client.ping()
    one_command = time.monotonic() - began
    began = time.monotonic()
    with pytest.raises(ResultsUnavailableError):
        await watcher.watch("two")
    assert time.monotonic() - began < 1.8 * one_command
    with pytest.raises(ResultsUnavailableError):
        await early.change(1.5)
    own_valkey.thaw()
    with own_valkey.client() as redis:
        publish(redis, "one", "STARTED")
    assert await early.change(5)
    assert early.result.state == "STARTED"
    early.close()


async def test_a_job_that_redis_forgets_is_unknown_again(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """A Redis that came back empty must not leave its waiters waiting."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        waiting = asyncio.create_task(watcher.wait("one", 20))
        await wait_until_async(lambda: subscriptions(own_valkey) == 1, description="subscribed")
        redis.flushall()
        redis.client_kill_filter(_type="pubsub")
    with pytest.raises(UnknownJobError):
        await waiting


async def test_ids_that_cannot_be_followed_are_told(watcher: Watcher, own_valkey: Valkey) -> None:
    """And leave nothing behind."""
    with pytest.raises(UnknownJobError):
        await watcher.watch("nobody-enqueued-it")
    with pytest.raises(InvalidJobIdError):
        await watcher.watch("a b")
    await wait_until_async(lambda: subscriptions(own_valkey) == 0, description="no subscription")


async def test_waiters_are_bounded(watcher: Watcher, own_valkey: Valkey) -> None:
    """And a place that becomes free is free."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    watches = [await watcher.watch("one") for _ in range(50)]
    with pytest.raises(TooManyWaitersError):
        await watcher.watch("one")
    watches.pop().close()
    watches.append(await watcher.watch("one"))
    for watch in watches:
        watch.close()
        watch.close()
    assert (await watcher.watch("one")).result.state == "QUEUED"


async def test_a_wait_in_vain_ends_with_its_time(watcher: Watcher, own_valkey: Valkey) -> None:
    """And says that the job goes on."""
    with own_valkey.client() as redis:
        publish(redis, "one", "STARTED")
    with pytest.raises(ResultTimeoutError):
        await watcher.wait("one", 0.1)


@pytest.fixture
async def stuck_write(watcher: Watcher, own_valkey: Valkey) -> asyncio.Event:
    """A write that is under way, and that loses the cancellation as redis-py's may."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    await watcher.watch("one")
    cancelled = asyncio.Event()
    sending = asyncio.Event()

    async def send(*_args: object, **_options: object) -> None:
        sending.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()

    assert watcher._feed is not None
    watcher._feed._connection.send_packed_command = send
    watcher._feed.add(["other"])
    await asyncio.wait_for(sending.wait(), 5)
    return cancelled


async def test_closing_ends_though_a_write_loses_the_cancellation(
    watcher: Watcher, stuck_write: asyncio.Event
) -> None:
    """Or the server would never stop."""
    async with asyncio.timeout(5):
        await watcher.aclose()
    assert stuck_write.is_set()
    assert watcher._following is not None
    assert watcher._following.done()


async def test_a_loss_ends_though_a_write_loses_the_cancellation(
    watcher: Watcher, own_valkey: Valkey, stuck_write: asyncio.Event
) -> None:
    """Or the connection would never be made again."""
    with own_valkey.client() as redis:
        redis.client_kill_filter(_type="pubsub")
        publish(redis, "one", "SUCCESS", result=1)
    assert (await watcher.wait("one", 5)).result == 1
    assert stuck_write.is_set()
