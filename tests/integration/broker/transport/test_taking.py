"""One take: what it costs the server, who waits on after it, and what becomes of a refusal."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from service.broker.scripts import QueueList, Scripts, Take, Taken
from service.redis.keys import BrokerKeys

KEYS = BrokerKeys()
MANY = [f"q{number}" for number in range(40)]  # ten queues have so many lists, by priority


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the session's server."""
    with Redis.from_url(redis_url) as client:
        yield client


def _message(tag: str) -> str:
    return json.dumps({"headers": {"task": "t"}, "properties": {"delivery_tag": tag}})


def _take(
    redis: Redis,
    *queues: str,
    waiter: str = "w",
    held: int = 0,
    acks: tuple[str, ...] = (),
    may_be_active: bool = True,
) -> Taken:
    lists = tuple(QueueList(name, name) for name in queues or ("celery",))
    take = Take(KEYS, lists, 10, 0, 30.0, acks, waiter, held, may_be_active)
    return Scripts(redis, KEYS).take(take)


def _commands(redis: Redis) -> int:
    stats: Any = redis.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


def test_a_take_from_many_lists_costs_few_commands(redis: Redis) -> None:
    """Two for each list were most of what a worker of ten queues asked of Redis."""
    _take(redis, *MANY)
    before = _commands(redis)
    assert _take(redis, *MANY).verdict == "active"
    idle, before = _commands(redis) - before, _commands(redis)
    assert idle <= 4

    redis.lpush(MANY[23], _message("a"))
    assert [each.queue for each in _take(redis, *MANY).deliveries] == [MANY[23]]
    assert _commands(redis) - before <= 1 + 20

    for name in MANY[:7]:
        redis.lpush(name, _message("b"), _message("c"))
    before = _commands(redis)
    busy = _take(redis, *MANY, held=9, may_be_active=False)
    assert len(busy.deliveries) == 10
    assert _commands(redis) - before <= 25


def test_messages_are_found_in_whichever_lists_they_are(redis: Redis) -> None:
    """First those of the first lists; also where lists are gone that were there a moment ago."""
    for names in ([0], [39], [0, 39], [7, 8, 9], [3, 20, 21, 38], range(40)):
        for number in names:
            redis.lpush(MANY[number], _message(f"m{number}"))
        taken = _take(redis, *MANY)
        assert [each.ident for each in taken.deliveries] == [f"m{n}" for n in names][:10]
        while _take(redis, *MANY).deliveries:
            pass


def test_what_is_popped_beyond_the_limit_of_a_reply_stays_first_in_its_list(redis: Redis) -> None:
    """Several are popped at once, by the size of those before: large ones behind small ones."""
    names = [f"m{number}" for number in range(14)]
    for name in names:
        body = "x" * (1_000_000 if name not in names[:2] else 1)
        redis.lpush("celery", json.dumps({"body": body, **json.loads(_message(name))}))
    idents: list[str] = []
    sizes = []
    while taken := _take(redis).deliveries:
        idents += [each.ident for each in taken]
        sizes.append(len(taken))
    assert idents == names
    assert max(sizes) < 10


def test_who_has_nothing_else_to_do_waits_on_with_one_job(redis: Redis) -> None:
    """No other one need be woken to wait in its place. Who is busy makes room for another one."""
    assert _take(redis).verdict == "active"
    redis.lpush("celery", _message("a"))
    alone = _take(redis)
    assert (alone.verdict, len(alone.deliveries)) == ("active", 1)
    assert redis.keys("*:wake") == []

    redis.lpush("celery", _message("b"))
    busy = _take(redis, held=1)
    assert (busy.verdict, len(busy.deliveries)) == ("taken", 1)
    assert _take(redis, held=2, waiter="other").verdict == "active"
    redis.lpush("celery", _message("c"), _message("d"))
    assert _take(redis, waiter="other").verdict == "taken"  # two jobs are not for one to wait with


def test_one_on_standby_is_told_when_there_may_be_a_place(redis: Redis) -> None:
    """It need not look before: an active one that has died is not counted any more then."""
    assert _take(redis, waiter="a").verdict == _take(redis, waiter="b").verdict == "active"
    third = _take(redis, waiter="c", may_be_active=False)
    assert third.verdict == "standby"
    assert third.look_again is not None
    assert 0 < third.look_again <= 3.5
    (doors,) = redis.keys("*:doors")
    redis.zincrby(doors, -third.look_again, "a")
    assert _take(redis, waiter="c", may_be_active=False).verdict == "active"
    assert set(redis.zrange(doors, 0, -1)) == {b"b", b"c"}
    assert 0 < redis.ttl(doors) <= 60


def test_one_that_is_active_and_does_not_know_it_takes_no_second_place(redis: Redis) -> None:
    """As after an answer that was lost."""
    assert _take(redis, waiter="a").verdict == _take(redis, waiter="b").verdict == "active"
    assert _take(redis, waiter="a", may_be_active=False).verdict == "active"


def test_who_was_not_active_is_not_by_taking(redis: Redis) -> None:
    """Two are active at most: else all would be woken by each message."""
    redis.lpush("celery", _message("a"))
    assert _take(redis).verdict == "taken"


@pytest.mark.parametrize(
    "headers",
    [
        {"eta": None},
        {},
        {"eta": None, "argsrepr": '("eta": "2099-01-01T00:00:00", "due": 5, "delivery_tag": "z")'},
        {"eta": None, "delivery_tag": "another"},
        {"eta": None, "tag": "\u00fc\n", "stamps": {"due": []}},
        {"eta": "2001-01-01T00:00:00", "nested": {"eta": None}},
        {"eta": None, "nested": {"eta": "2099-01-01T00:00:00"}},
    ],
)
def test_a_message_is_read_by_its_form_and_not_by_a_text_in_it(
    redis: Redis, headers: dict[str, object]
) -> None:
    """Most are not decoded to be taken: that takes longer than all the rest of a take."""
    message = {"headers": {"task": "t", **headers}, "properties": {"delivery_tag": "own"}}
    redis.lpush("celery", json.dumps(message))
    assert [each.ident for each in _take(redis).deliveries] == ["own"]


def test_a_job_for_later_is_found_whatever_else_its_message_says(redis: Redis) -> None:
    """By an ETA, or by the server's own moment; the words for none may stand elsewhere in it."""
    later = {"task": "t", "id": "x", "eta": "2099-01-01T00:00:00"}
    properties = {"delivery_tag": "own"}
    for headers, more in [
        ({**later, "nested": {"eta": None}}, {}),
        ({**later, "eta": None}, {"due": 4e9}),
    ]:
        redis.lpush("celery", json.dumps({"headers": headers, "properties": properties, **more}))
        assert _take(redis).deliveries == ()
    assert redis.zcard("celery.scheduled") == 2


def test_acks_are_told_apart_from_those_that_come_late(redis: Redis) -> None:
    """Nearly always all of them are held, which is asked for at once."""
    redis.lpush("celery", *(_message(tag) for tag in "abc"))
    a, b, c = (each.tag for each in _take(redis).deliveries)
    assert _take(redis, acks=(a, b)).late == ()
    assert _take(redis, acks=(a, c, b)).late == (a, b)
    assert redis.hlen(KEYS.unacked) == redis.zcard(KEYS.index) == 0


@pytest.mark.parametrize("refusing", [KEYS.unacked, KEYS.index])
def test_what_may_not_be_held_stays_in_its_queue(redis: Redis, refusing: str) -> None:
    """As where a user's rights do not reach so far. It was popped by then, and would be lost."""
    waiting = [_message(tag) for tag in "abc"]
    redis.rpush("celery", *waiting)
    redis.zadd("celery.scheduled", {_message("due"): 5.0})
    redis.set(refusing, "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        _take(redis)
    redis.delete(refusing)
    assert redis.lrange("celery", 0, -1) == [text.encode() for text in waiting]
    assert redis.zrange("celery.scheduled", 0, -1, withscores=True) == [
        (_message("due").encode(), 5.0)
    ]
    other = KEYS.index if refusing == KEYS.unacked else KEYS.unacked
    assert redis.exists(other) == 0
