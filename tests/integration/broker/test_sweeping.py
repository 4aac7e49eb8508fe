"""Who may recover what, and when: never before its owner has had a full lease to renew."""

import time
from collections.abc import Iterator

import pytest
from redis import Redis

from service.broker.scripts import Keys, Scripts
from tests.support.wait import wait_until

LEASE = 1.0
OUTAGE = LEASE / 3
TAG = "job@0-1"
# Not Kombu's: clients of earlier tests in this process may still look in there.
KEYS = Keys("held", "held_index")


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the session's server, where one message was held long ago."""
    with Redis.from_url(redis_url) as client:
        client.hset(KEYS.unacked, TAG, '[{},"","celery"]')
        client.zadd(KEYS.index, {TAG: 1})
        yield client


def _sweep(redis: Redis) -> list[str]:
    """The tags that somebody who has never looked before is given."""
    scripts = Scripts(redis, KEYS)
    return [found.tag for found in scripts.expired(LEASE, 3600, outage=OUTAGE, limit=10)]


def _sweep_until_found(redis: Redis) -> float:
    begun = time.monotonic()
    wait_until(lambda: _sweep(redis), description="the message is given up by its owner")
    return time.monotonic() - begun


def _look_away(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, description="nobody has looked")


def test_owners_have_a_full_lease_from_the_first_look_on(redis: Redis) -> None:
    """Redis may have come back a moment ago: what has expired is no sign of a death."""
    assert _sweep_until_found(redis) >= LEASE


def test_one_who_has_just_come_up_may_recover_where_others_have_looked(redis: Redis) -> None:
    """Else the jobs of workers that die one after another would wait for a lease each time."""
    _sweep_until_found(redis)
    assert _sweep(redis) == [TAG]


def test_after_an_outage_owners_have_a_full_lease_again(redis: Redis) -> None:
    """Nobody could look, so nobody could renew."""
    _sweep_until_found(redis)
    _look_away(OUTAGE * 1.2)
    assert _sweep_until_found(redis) >= LEASE


@pytest.mark.parametrize("leap", [-3600, 3600])
def test_after_a_leap_of_the_servers_clock_owners_have_a_full_lease_again(
    redis: Redis, leap: float
) -> None:
    """All leases are an hour old at once, or nobody is known to have looked for an hour."""
    _sweep_until_found(redis)
    last = float(redis.hget(KEYS.sweeps, "last") or 0)
    redis.hset(KEYS.sweeps, "last", last - leap)
    assert _sweep(redis) == []
    assert _sweep_until_found(redis) >= LEASE * 0.9


def test_a_holder_with_a_longer_lease_keeps_it(redis: Redis) -> None:
    """A deployment may shorten SERVICE_LEASE while workers with the old one still run."""
    redis.zadd(KEYS.index, {TAG: 1, "long@1-1/3600.0": 1, "short@1-1/0.5": 2})
    redis.hset(KEYS.unacked, mapping={"long@1-1/3600.0": "[]", "short@1-1/0.5": "[]"})
    _sweep_until_found(redis)
    assert _sweep(redis) == [TAG, "short@1-1/0.5"]


def test_the_account_is_gone_when_nobody_looks_any_more(redis: Redis) -> None:
    """What is not needed is not left behind."""
    _sweep(redis)
    assert 0 < redis.pttl(KEYS.sweeps) <= OUTAGE * 1000 + 1001
