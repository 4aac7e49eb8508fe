"""Replay and drop, where broker and results are two servers and nothing can be one step."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from service.broker.dead_letters.asking import Asking
from service.broker.dead_letters.model import Box, DeadLetter
from service.broker.dead_letters.store import DeadLetters, ask_drop_apart, ask_replay_apart
from service.redis.keys import ResultKeys
from tests.support.dead import DEAD, dead_letter

KEYS = ResultKeys(ttl=60)
KEY = "celery-task-meta-job"
FAILED = json.dumps({"status": "FAILURE", "result": {"exc_message": ["gave up"]}})
SUCCEEDED = json.dumps({"status": "SUCCESS", "result": 3})
# A replay asks four questions, so this is before the first, between any two, and after the last.
STEPS = range(5)


class Two:
    """Two databases that stand for two servers; one letter, whose job says FAILURE."""

    def __init__(self, broker: Redis, results: Redis) -> None:
        self.broker, self.results = broker, results
        self.letters = DeadLetters(broker, KEYS, results=results)
        broker.lpush(DEAD, dead_letter("job", "a.task", []))
        results.set(KEY, FAILED, ex=60)
        letter = self.letters.get("job")
        assert letter is not None
        self.letter: DeadLetter = letter

    @property
    def state(self) -> str:
        """What the job says."""
        return str(json.loads(self.results.get(KEY) or b'{"status": ""}')["status"])

    @property
    def queued(self) -> int:
        """How many messages wait."""
        return int(self.broker.llen("celery"))

    def take_steps(
        self, asking: Asking[bool], number: int, then: Callable[[], object] | None = None
    ) -> bool | None:
        """Answer so many questions, then crash, or let something happen and go on."""
        answer: Any = None
        try:
            for step in range(100):
                if step == number:
                    if then is None:
                        return None
                    then()
                question = asking.send(answer)
                client = self.results if question.of_results else self.broker
                answer = client.execute_command(*question.words)  # type: ignore[no-untyped-call]  # by redis-py
        except StopIteration as end:
            return bool(end.value)
        raise AssertionError("it asks for ever")

    def replay(self) -> Asking[bool]:
        """A replay that was begun."""
        return ask_replay_apart(Box(), self.letter, KEYS)

    def work(self) -> None:
        """Run the job that waits, as a worker would."""
        assert self.broker.rpop("celery") is not None
        self.results.set(KEY, SUCCEEDED, ex=60)


@pytest.fixture
def two(redis_url: str) -> Iterator[Two]:
    with Redis.from_url(redis_url.replace("/0", "/1")) as broker, Redis.from_url(redis_url) as ours:
        yield Two(broker, ours)


def test_it_is_replayed_once(two: Two) -> None:
    """And its record is not kept for longer than others."""
    assert two.letters.replay(two.letter)
    assert (two.state, two.queued, two.letters.get("job")) == ("QUEUED", 1, None)
    assert 0 < two.results.ttl(KEY) <= 60
    assert not two.letters.replay(two.letter)
    assert (two.state, two.queued) == ("QUEUED", 1)


@pytest.mark.parametrize("step", STEPS)
def test_whoever_crashes_can_replay_again(two: Two, step: int) -> None:
    """The letter is there until the job is queued, so a second replay makes all of it good."""
    two.take_steps(two.replay(), step)
    assert two.letters.replay(two.letter) is (step < 4)
    assert (two.state, two.queued, two.letters.get("job")) == ("QUEUED", 1, None)


@pytest.mark.parametrize("step", range(4))
def test_whoever_crashes_can_drop_it_too(two: Two, step: int) -> None:
    """Its job, which may say QUEUED by then, must not do so for ever."""
    two.take_steps(two.replay(), step)
    assert two.letters.drop(two.letter)
    assert (two.state, two.queued, two.letters.get("job")) == ("FAILURE", 0, None)


@pytest.mark.parametrize("step", range(4))
def test_two_that_replay_at_once_make_one_job(two: Two, step: int) -> None:
    """And the slower one does not write over what the job has made since."""

    def another() -> None:
        assert two.letters.replay(two.letter)
        two.work()

    assert two.take_steps(two.replay(), step, then=another) is False
    assert (two.state, two.queued, two.letters.get("job")) == ("SUCCESS", 0, None)


@pytest.mark.parametrize("step", range(4))
def test_two_that_replay_at_once_leave_a_job_that_waits(two: Two, step: int) -> None:
    """What the slower one takes back is only its own."""
    assert two.take_steps(two.replay(), step, then=lambda: two.letters.replay(two.letter)) is False
    assert (two.state, two.queued) == ("QUEUED", 1)


@pytest.mark.parametrize("step", range(4))
def test_who_drops_wins_over_who_replays_too_late(two: Two, step: int) -> None:
    """The job goes on to say FAILURE."""
    assert two.take_steps(two.replay(), step, then=lambda: two.letters.drop(two.letter)) is False
    assert (two.state, two.queued) == ("FAILURE", 0)


@pytest.mark.parametrize("step", range(3))
def test_who_replays_after_the_drop_of_a_broken_replay(two: Two, step: int) -> None:
    """Neither of the two can leave QUEUED behind."""
    two.take_steps(two.replay(), 3)
    drop = ask_drop_apart(Box(), two.letter, KEYS)
    two.take_steps(drop, step, then=lambda: two.letters.replay(two.letter))
    assert (two.state, two.queued) == (("QUEUED", 1) if step == 0 else ("FAILURE", 0))


def test_a_record_that_has_expired_comes_back(two: Two) -> None:
    """A letter is kept for longer than its job's record."""
    two.results.delete(KEY)
    assert two.letters.replay(two.letter)
    assert (two.state, two.queued) == ("QUEUED", 1)


def test_a_job_enqueued_anew_is_left_alone_by_the_drop_of_an_old_letter(two: Two) -> None:
    """Its id was free again when its record had expired."""
    two.results.set(KEY, json.dumps({"status": "QUEUED"}))
    assert two.letters.drop(two.letter)
    assert two.state == "QUEUED"
