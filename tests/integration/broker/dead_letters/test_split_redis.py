"""Replay and drop, where broker and results are two servers and nothing can be one step."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.broker.dead_letters.model import DeadLetter
from service.broker.dead_letters.store import DeadLetters
from service.broker.scripts import script
from service.redis.keys import BrokerKeys, ResultKeys
from service.redis.script import COMPARE_AND_SET
from tests.support.dead import DEAD, dead_letter

KEY = "celery-task-meta-job"
FAILED = json.dumps({"status": "FAILURE", "result": {"exc_message": ["gave up"]}})
SUCCEEDED = json.dumps({"status": "SUCCESS", "result": 3})
# A replay sends four commands, so this is before the first, between any two, and after the last.
STEPS = range(5)


class CrashError(Exception):
    """The process that replays or drops ends here."""


class Steps:
    """Counts the commands of one caller; lets something happen before the one of a number."""

    def __init__(self, number: int, then: Callable[[], Awaitable[object]] | None) -> None:
        self._number = number
        self._then = then
        self._sent = 0

    async def before_command(self) -> None:
        """Crash, or let it happen, where it is time."""
        if self._sent == self._number:
            if self._then is None:
                raise CrashError
            await self._then()
        self._sent += 1


class SteppedRedis(Redis):
    """A client whose commands are counted."""

    steps = Steps(-1, None)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send it when it is its turn."""
        await self.steps.before_command()
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # by redis-py


def _letters(broker: Redis, results: Redis) -> DeadLetters:
    keys = ResultKeys(ttl=60)
    return DeadLetters(broker, results, result_keys=keys, broker_keys=BrokerKeys())


class Two:
    """Two databases that stand for two servers; one letter, whose job says FAILURE."""

    letter: DeadLetter

    def __init__(self, broker_url: str, results_url: str) -> None:
        self.broker, self.results = Redis.from_url(broker_url), Redis.from_url(results_url)
        self._pools = self.broker.connection_pool, self.results.connection_pool
        self.letters = _letters(self.broker, self.results)

    async def __aenter__(self) -> "Two":
        await self.broker.script_load(script("replay").text)  # else each is sent twice
        await self.results.script_load(COMPARE_AND_SET.text)
        await self.broker.lpush(DEAD, dead_letter("job", "a.task", []))
        await self.results.set(KEY, FAILED, ex=60)
        letter = await self.letters.get("job")
        assert letter is not None
        self.letter = letter
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.aclose()
        await self.results.aclose()

    async def seen(self) -> tuple[str, int]:
        """What the job says, and how many messages wait."""
        record = json.loads(await self.results.get(KEY) or b'{"status": ""}')
        return str(record["status"]), int(await self.broker.llen("celery"))

    async def has_letter(self) -> bool:
        """Whether the letter is there."""
        return await self.letters.get("job") is not None

    async def replay(self) -> bool:
        """Replay the letter, as another person would."""
        return await self.letters.replay(self.letter)

    async def drop(self) -> bool:
        """Drop the letter, as another person would."""
        return await self.letters.drop(self.letter)

    async def take_steps(
        self,
        act: Callable[[DeadLetters], Awaitable[bool]],
        number: int,
        then: Callable[[], Awaitable[object]] | None = None,
    ) -> bool | None:
        """Send so many commands, then crash, or let something happen and go on."""
        broker, results = (SteppedRedis(connection_pool=pool) for pool in self._pools)
        broker.steps = results.steps = Steps(number, then)
        try:
            return await act(_letters(broker, results))
        except CrashError:
            return None

    async def replay_in_steps(
        self, number: int, then: Callable[[], Awaitable[object]] | None = None
    ) -> bool | None:
        """A replay that crashes, or that something happens in."""
        return await self.take_steps(lambda letters: letters.replay(self.letter), number, then)

    async def work(self) -> None:
        """Run the job that waits, as a worker would."""
        assert await self.broker.rpop("celery") is not None
        await self.results.set(KEY, SUCCEEDED, ex=60)


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[Two]:
    async with Two(redis_url.replace("/0", "/1"), redis_url) as two:
        yield two


async def test_it_is_replayed_once(two: Two) -> None:
    """And its record is kept as long as that of any job that waits."""
    assert await two.replay()
    assert await two.seen() == ("QUEUED", 1)
    assert not await two.has_letter()
    assert 0 < await two.results.ttl(KEY) <= ResultKeys().open_ttl
    assert not await two.replay()
    assert await two.seen() == ("QUEUED", 1)


@pytest.mark.parametrize("step", STEPS)
async def test_whoever_crashes_can_replay_again(two: Two, step: int) -> None:
    """The letter is there until the job is queued, so a second replay makes all of it good."""
    await two.replay_in_steps(step)
    assert await two.replay() is (step < 4)
    assert await two.seen() == ("QUEUED", 1)
    assert not await two.has_letter()


@pytest.mark.parametrize("step", range(4))
async def test_whoever_crashes_can_drop_it_too(two: Two, step: int) -> None:
    """Its job, which may say QUEUED by then, must not do so for ever."""
    await two.replay_in_steps(step)
    assert await two.drop()
    assert await two.seen() == ("FAILURE", 0)
    assert not await two.has_letter()


@pytest.mark.parametrize("step", range(4))
async def test_two_that_replay_at_once_make_one_job(two: Two, step: int) -> None:
    """And the slower one does not write over what the job has made since."""

    async def another() -> None:
        assert await two.replay()
        await two.work()

    assert await two.replay_in_steps(step, then=another) is False
    assert await two.seen() == ("SUCCESS", 0)
    assert not await two.has_letter()


@pytest.mark.parametrize("step", range(4))
async def test_two_that_replay_at_once_leave_a_job_that_waits(two: Two, step: int) -> None:
    """What the slower one takes back is only its own."""
    assert await two.replay_in_steps(step, then=two.replay) is False
    assert await two.seen() == ("QUEUED", 1)


@pytest.mark.parametrize("step", range(4))
async def test_who_drops_wins_over_who_replays_too_late(two: Two, step: int) -> None:
    """The job goes on to say FAILURE."""
    assert await two.replay_in_steps(step, then=two.drop) is False
    assert await two.seen() == ("FAILURE", 0)


@pytest.mark.parametrize("step", range(3))
async def test_who_replays_after_the_drop_of_a_broken_replay(two: Two, step: int) -> None:
    """Neither of the two can leave QUEUED behind."""
    await two.replay_in_steps(3)
    await two.take_steps(lambda letters: letters.drop(two.letter), step, then=two.replay)
    assert await two.seen() == (("QUEUED", 1) if step == 0 else ("FAILURE", 0))


async def test_a_record_that_has_expired_comes_back(two: Two) -> None:
    """A letter is kept for longer than its job's record."""
    await two.results.delete(KEY)
    assert await two.replay()
    assert await two.seen() == ("QUEUED", 1)


async def test_a_job_enqueued_anew_is_left_alone_by_the_drop_of_an_old_letter(two: Two) -> None:
    """Its id was free again when its record had expired."""
    await two.results.set(KEY, json.dumps({"status": "QUEUED"}), ex=60)
    assert await two.drop()
    assert (await two.seen())[0] == "QUEUED"
