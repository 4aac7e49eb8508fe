"""Many waiters, one connection, and no change missed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from quart import Quart

from service import create_app
from service.errors import (
    InvalidJobIdError,
    ResultsUnavailableError,
    ResultTimeoutError,
    TooManyWaitersError,
    UnknownJobError,
)
from service.parts import parts_of
from service.results.follower import Change, Follower, NoChange
from service.results.watcher import Watcher
from tests.support.records import publish
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async, within_twice

TIMEOUT = 0.5  # of a watcher whose Redis is silent


@pytest.fixture
async def app(request: pytest.FixtureRequest, own_valkey: Valkey) -> AsyncIterator[Quart]:
    """An app that is patient on a busy machine, or gives up after what a test asks for."""
    app = create_app(
        {
            "SERVICE_REDIS_URL": own_valkey.url,
            "SERVICE_REDIS_TIMEOUT": getattr(request, "param", 20.0),
            "SERVICE_MAX_WAITERS": 50,
        }
    )
    async with app.test_app():
        yield app


@pytest.fixture
def watcher(app: Quart) -> Watcher:
    return parts_of(app).watcher


def state_in(follower: Follower) -> str:
    return follower.record("one").result.state


def subscriptions(valkey: Valkey) -> int:
    with valkey.client() as redis:
        return len(redis.pubsub_channels())


async def insist(watcher: Watcher, job_id: str, *, interval: float) -> Follower:
    """Follow a job, however often Redis does not answer in time."""

    async def follow() -> Follower | None:
        with suppress(ResultsUnavailableError):
            return await watcher.follow(job_id, interval=interval)
        return None

    found = await wait_until_async(follow, description=f"{job_id} is followed")
    assert found is not None
    return found


async def test_each_waiter_sees_each_change_in_order(watcher: Watcher, own_valkey: Valkey) -> None:
    """From the record that was there when it began, on one connection for all."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        followers = [await watcher.follow("one", interval=5) for _ in range(20)]
        pubsubs = [c for c in redis.client_list() if int(c["sub"])]
        assert len(pubsubs) == 1
        for state in ("STARTED", "PROGRESS", "SUCCESS"):
            publish(redis, "one", state)
        for follower in followers:
            assert state_in(follower) == "QUEUED"
            for state in ("STARTED", "PROGRESS", "SUCCESS"):
                assert isinstance(await anext(follower), Change)
                assert state_in(follower) == state
            follower.close()
        records = {id(follower.record("one")) for follower in followers}
        assert len(records) == 1, "a change is decoded once, for all"
    await wait_until_async(lambda: subscriptions(own_valkey) == 0, description="no subscription")


async def test_the_same_record_again_is_no_change(watcher: Watcher, own_valkey: Valkey) -> None:
    """A worker may store what is there already."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        follower = await watcher.follow("one", interval=0.1)
        publish(redis, "one", "QUEUED")
        assert await anext(follower) is NoChange.QUIET
        follower.close()


async def test_no_result_is_missed_between_reading_and_waiting(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """Whenever the worker is done in between."""

    async def one(number: int) -> str:
        job_id = f"job-{number}"
        with own_valkey.client() as redis:
            publish(redis, job_id, "QUEUED")
            waiting = asyncio.create_task(watcher.wait(job_id, 30))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            publish(redis, job_id, "SUCCESS", result=number)
        return str((await waiting).result)

    numbers = range(40)
    assert await asyncio.gather(*map(one, numbers)) == [str(number) for number in numbers]


@pytest.mark.parametrize("fault", ["restart", "connection"])
async def test_a_change_during_a_loss_of_the_connection_is_not_missed(
    watcher: Watcher, own_valkey: Valkey, fault: str
) -> None:
    """The connection is made again, and every job that is waited for is read again."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    waiting = [asyncio.create_task(watcher.wait("one", 30)) for _ in range(3)]
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


@pytest.mark.parametrize("app", [TIMEOUT], indirect=True, ids=["impatient"])
async def test_a_silent_redis_is_an_error_within_the_timeout(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """For a new waiter; one that waits already goes on, and is told at the end of its time.

    To wait twice for it would be too long.
    """
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        publish(redis, "two", "QUEUED")
    early = await insist(watcher, "one", interval=1.5)
    own_valkey.freeze()
    with pytest.raises(ResultsUnavailableError):
        await within_twice(TIMEOUT, watcher.follow("two", interval=1))
    assert await anext(early) is NoChange.LOST
    own_valkey.thaw()
    with own_valkey.client() as redis:
        publish(redis, "one", "STARTED")
    async for change in early:
        if isinstance(change, Change):
            break
    assert state_in(early) == "STARTED"
    early.close()


async def test_a_job_that_redis_forgets_is_unknown_again(
    watcher: Watcher, own_valkey: Valkey
) -> None:
    """A Redis that came back empty must not leave its waiters waiting."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
        waiting = asyncio.create_task(watcher.wait("one", 30))
        await wait_until_async(lambda: subscriptions(own_valkey) == 1, description="subscribed")
        redis.flushall()
        redis.client_kill_filter(_type="pubsub")
    with pytest.raises(UnknownJobError):
        await waiting


async def test_ids_that_nobody_can_follow_are_refused(watcher: Watcher, own_valkey: Valkey) -> None:
    """And leave nothing behind."""
    follower = await watcher.follow("nobody-enqueued-it", interval=1)
    with pytest.raises(UnknownJobError):
        follower.record("nobody-enqueued-it")
    with pytest.raises(InvalidJobIdError):
        await watcher.follow("a b", interval=1)
    assert watcher.waiters == 1
    follower.close()
    assert watcher.waiters == 0
    await wait_until_async(lambda: subscriptions(own_valkey) == 0, description="no subscription")


async def test_waiters_are_bounded(watcher: Watcher, own_valkey: Valkey) -> None:
    """And a place that becomes free is free."""
    with own_valkey.client() as redis:
        publish(redis, "one", "QUEUED")
    followers = [await watcher.follow("one", interval=1) for _ in range(50)]
    with pytest.raises(TooManyWaitersError):
        await watcher.follow("one", interval=1)
    followers.pop().close()
    followers.append(await watcher.follow("one", interval=1))
    for follower in followers:
        follower.close()
        follower.close()
    assert state_in(await watcher.follow("one", interval=1)) == "QUEUED"


async def test_one_follower_follows_many_jobs(watcher: Watcher, own_valkey: Valkey) -> None:
    """Until each has ended or is known no more; at the server's stop it ends, whatever is left."""
    with own_valkey.client() as redis:
        publish(redis, "one", "STARTED")
        publish(redis, "two", "SUCCESS")
        follower = await watcher.follow("one", "two", "three", interval=0.1)
        assert list(follower.records) == ["one", "two"]
        assert watcher.waiters == 1
        publish(redis, "one", "FAILURE")
        change = await anext(follower)
        assert isinstance(change, Change)
        assert change.record == follower.record("one")
    assert await anext(follower) is NoChange.QUIET
    waiting = asyncio.ensure_future(anext(follower, None))
    watcher.stop()
    assert await waiting is None


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
    await watcher.follow("one", interval=1)
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
    await asyncio.wait_for(sending.wait(), 30)
    return cancelled


async def test_closing_ends_though_a_write_loses_the_cancellation(
    watcher: Watcher, stuck_write: asyncio.Event
) -> None:
    """Or the server would never stop."""
    async with asyncio.timeout(20):
        await watcher.aclose()
    assert stuck_write.is_set()
    assert watcher._feeding is not None
    assert watcher._feeding.done()


async def test_a_loss_ends_though_a_write_loses_the_cancellation(
    watcher: Watcher, own_valkey: Valkey, stuck_write: asyncio.Event
) -> None:
    """Or the connection would never be made again."""
    with own_valkey.client() as redis:
        redis.client_kill_filter(_type="pubsub")
        publish(redis, "one", "SUCCESS", result=1)
    assert (await watcher.wait("one", 30)).result == 1
    assert stuck_write.is_set()
