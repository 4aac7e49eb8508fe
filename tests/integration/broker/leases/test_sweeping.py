"""Who may recover what, and when: never before its owner has had a full lease to renew."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from kombu.utils.json import dumps, loads
from redis import Redis
from redis.exceptions import ResponseError

from service.broker.delivery import LeaseOptions
from service.broker.leases.recovery import Recovery
from service.broker.scripts import Move, QueueList, Scripts, Take
from service.redis.keys import BrokerKeys
from tests.support.slow_commands import none_slower_than
from tests.support.valkey import Valkey

# No test waits for it: they make Redis's account of the sweeps older.
LEASE = 60.0
OUTAGE = LEASE / 3
TAG = "job@0-1"
# Not Kombu's own: clients of earlier tests in this process may still look in there.
KEYS = BrokerKeys("sweeping:unacked", "sweeping:unacked_index")
UNACKED, INDEX = KEYS.in_flight


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the session's server, where one message was held long ago."""
    with Redis.from_url(redis_url) as client:
        client.hset(UNACKED, TAG, '[{},"","celery"]')
        client.zadd(INDEX, {TAG: 1})
        yield client


def _sweep(redis: Redis) -> list[str]:
    """The tags that somebody who has never looked before is given."""
    scripts = Scripts(redis, KEYS)
    page = scripts.expired(LEASE, 3600, outage=OUTAGE, start=0, limit=10)
    return [found.tag for found in page.found]


def _pass(redis: Redis, seconds: float) -> None:
    """Have time pass in which somebody has always swept, until just now."""
    whole, micros = redis.time()
    now = whole + micros / 1_000_000
    since = float(redis.hget(KEYS.sweeps, "since") or now)
    redis.hset(KEYS.sweeps, items=["since", since - seconds, "last", now])
    redis.expire(KEYS.sweeps, 60)


def _pass_unseen(redis: Redis, seconds: float) -> None:
    """Have time pass in which nobody has swept."""
    for name, at in redis.hgetall(KEYS.sweeps).items():
        redis.hset(KEYS.sweeps, name, float(at) - seconds)


def _assert_owners_have_a_full_lease(redis: Redis) -> None:
    """From the last sweep on."""
    _pass(redis, LEASE - 1)
    assert _sweep(redis) == []
    _pass(redis, 2)
    assert TAG in _sweep(redis)


def test_owners_have_a_full_lease_from_the_first_look_on(redis: Redis) -> None:
    """Redis may have come back a moment ago: what has expired is no sign of a death."""
    assert _sweep(redis) == []
    _assert_owners_have_a_full_lease(redis)


def test_one_who_has_just_come_up_may_recover_where_others_have_looked(redis: Redis) -> None:
    """Else the jobs of workers that die one after another would wait for a lease each time."""
    _pass(redis, LEASE + 1)
    assert _sweep(redis) == [TAG]


def test_after_an_outage_owners_have_a_full_lease_again(redis: Redis) -> None:
    """Nobody could look, so nobody could renew."""
    _pass(redis, LEASE + 1)
    assert _sweep(redis) == [TAG]
    _pass_unseen(redis, OUTAGE + 1)
    assert _sweep(redis) == []
    _assert_owners_have_a_full_lease(redis)


@pytest.mark.parametrize("leap", [-3600, 3600])
def test_after_a_leap_of_the_servers_clock_owners_have_a_full_lease_again(
    redis: Redis, leap: float
) -> None:
    """All leases are an hour old at once, or nobody is known to have looked for an hour."""
    _pass(redis, LEASE + 1)
    assert _sweep(redis) == [TAG]
    last = float(redis.hget(KEYS.sweeps, "last") or 0)
    redis.hset(KEYS.sweeps, "last", last - leap)
    assert _sweep(redis) == []
    _assert_owners_have_a_full_lease(redis)


def test_leases_from_before_a_step_back_of_the_clock_expire(redis: Redis) -> None:
    """Those of dead workers, too: within a lease of the step, whatever the clock says."""
    whole, micros = redis.time()
    ahead = whole + micros / 1e6 + 600
    dead = {f"dead{number}@1-1/{LEASE}": ahead - number / 1000 for number in range(25)}
    redis.hset(UNACKED, mapping=dict.fromkeys(dead, "[]"))
    redis.zadd(INDEX, dead)
    redis.hset(KEYS.sweeps, items=["since", ahead - 7200, "last", ahead])  # then it is set back
    for _ in range(3):  # ten in each look
        assert _sweep(redis) == []
    for tag in redis.hkeys(UNACKED):
        redis.zincrby(INDEX, -LEASE, tag)  # a lease has passed
    _pass(redis, LEASE + 1)
    page = Scripts(redis, KEYS).expired(LEASE, 3600, outage=OUTAGE, start=0, limit=100)
    assert {found.tag for found in page.found} == {TAG, *dead}


def test_a_holder_with_a_longer_lease_keeps_it(redis: Redis) -> None:
    """A deployment may shorten SERVICE_LEASE while workers with the old one still run."""
    redis.zadd(INDEX, {TAG: 1, "long@1-1/3600.0": 1, "short@1-1/0.5": 2})
    redis.hset(UNACKED, mapping={"long@1-1/3600.0": "[]", "short@1-1/0.5": "[]"})
    _pass(redis, LEASE + 1)
    assert _sweep(redis) == [TAG, "short@1-1/0.5"]


def test_the_account_is_gone_when_nobody_looks_any_more(redis: Redis) -> None:
    """What is not needed is not left behind."""
    _sweep(redis)
    assert 0 < redis.pttl(KEYS.sweeps) <= OUTAGE * 1000 + 1001


def test_where_nothing_is_held_no_account_is_kept(redis: Redis) -> None:
    """Idle workers would write one all the time. The first sweep that finds something does."""
    redis.delete(UNACKED, INDEX)
    assert _sweep(redis) == []
    assert not redis.exists(KEYS.sweeps)
    redis.hset(UNACKED, TAG, '[{},"","celery"]')
    redis.zadd(INDEX, {TAG: 1})
    assert _sweep(redis) == []
    _assert_owners_have_a_full_lease(redis)


def _message(deliveries: int, **headers: object) -> str:
    """A job that has been delivered so often."""
    properties = {"delivery_tag": "t", "x-deliveries": deliveries, "priority": 0}
    return dumps({"body": "", "headers": {"id": "job", **headers}, "properties": properties})


def _recovery(redis: Redis, failed: list[bytes]) -> Recovery:
    """What a worker sweeps with, and which jobs it has said to have failed."""

    def fail(message: bytes, _: str) -> bool:
        failed.append(message)
        return True

    options = LeaseOptions(LEASE, 3600, 5)
    return Recovery(Scripts(redis, KEYS), options, fail=fail)


@pytest.fixture
def recovery(redis: Redis) -> Recovery:
    """One that may recover at once."""
    _pass(redis, LEASE + 1)
    redis.delete(UNACKED, INDEX)
    return _recovery(redis, [])


def _hold(redis: Redis, held: Mapping[str, str], since: float = 1) -> None:
    """As one who has renewed no lease for years."""
    redis.hset(UNACKED, items=[part for pair in held.items() for part in pair])
    redis.zadd(INDEX, dict.fromkeys(held, since))
    _pass(redis, 0)  # however long this has taken


def test_a_thousand_jobs_are_not_recovered_a_hundred_a_round(
    redis: Redis, recovery: Recovery
) -> None:
    """And what cannot be moved, as it is a stock worker's topic, stands in nobody's way."""
    _hold(redis, {f"stock{number}": '[{}, "topic", "key"]' for number in range(150)})
    many = {f"t{number}@1-1/1.0": f'[{_message(0)},"","many"]' for number in range(1000)}
    _hold(redis, many, since=2)
    rounds = 1
    while recovery.sweep(()):
        rounds += 1
    assert redis.llen("many") == 1000
    assert redis.hlen(UNACKED) == 150
    assert rounds < 10


@pytest.mark.chaos
def test_a_hundred_thousand_jobs_are_recovered_in_short_steps(
    redis: Redis, recovery: Recovery, valkey: Valkey
) -> None:
    """All others wait while the server runs a script."""
    for start in range(0, 100_000, 10_000):
        tags = [f"t{number}@1-1/1.0" for number in range(start, start + 10_000)]
        _hold(redis, {tag: f'[{_message(0)},"","many"]' for tag in tags})
    with none_slower_than(valkey, 20):
        while recovery.sweep(()):
            _pass(redis, 0)
    assert redis.llen("many") == 100_000


def test_a_scheduled_job_that_never_began_ended_no_worker(redis: Redis, recovery: Recovery) -> None:
    """It goes back uncounted; one that may have begun is given up on."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    etas = {"later@1-1/1.0": later, "began@1-1/1.0": None}
    _hold(redis, {tag: f'[{_message(4, eta=eta)},"","scheduled"]' for tag, eta in etas.items()})
    recovery.sweep(())
    (back,) = redis.lrange("scheduled", 0, -1)
    assert json.loads(back)["properties"]["x-deliveries"] == 4
    assert [burial.delivery.tag for burial in recovery.burials()] == ["began@1-1/1.0"]


def test_what_kombu_writes_in_a_form_of_its_own_goes_back_as_it_was(
    redis: Redis, recovery: Recovery
) -> None:
    """A UUID in a header: it used to stop all recovery."""
    message = _message(0, trace=UUID(int=1))
    _hold(redis, {TAG: f'[{message},"","typed"]'})
    recovery.sweep(())
    (back,) = redis.lrange("typed", 0, -1)
    assert loads(back)["headers"]["trace"] == UUID(int=1)


def test_what_cannot_be_read_is_held_until_it_is_buried(redis: Redis) -> None:
    """Else a worker that dies in between would leave its job QUEUED for ever."""
    scripts = Scripts(redis, KEYS)
    redis.lpush("bad", "not json")
    taken = scripts.take(Take(KEYS, (QueueList("bad", "bad"),), 1, 0, LEASE))
    (unusable,) = taken.unusable
    assert (unusable.delivery.queue, unusable.delivery.message) == ("bad", b"not json")
    assert "not a JSON object" in unusable.reason
    assert redis.hget(UNACKED, unusable.delivery.tag) == b'[not json,"","bad"]'


def test_what_was_renewed_meanwhile_is_not_buried(redis: Redis, recovery: Recovery) -> None:
    """Its owner lives: its job must not be said to have failed, which nothing could take back."""
    failed: list[bytes] = []
    late = _recovery(redis, failed)
    _hold(redis, {TAG: f'[{_message(4)},"","renewed"]'})
    late.sweep(())
    (burial,) = late.burials()
    redis.zadd(INDEX, {TAG: time.time()})
    late.bury(burial)
    assert failed == []
    assert late.burials() == []
    redis.zadd(INDEX, {TAG: 1})
    recovery.sweep(())
    (burial,) = recovery.burials()
    recovery.bury(burial)
    assert redis.llen("renewed.dead") == 1


def test_one_that_was_without_redis_waits_and_the_others_do_not(
    redis: Redis, recovery: Recovery
) -> None:
    """It cannot tell who else was; a worker on a bad line must not stop the recovery of all."""
    flapping = _recovery(redis, [])
    flapping.interrupted_by(ConnectionError())
    _hold(redis, {TAG: f'[{_message(0)},"","flap"]'})
    flapping.sweep(())
    assert not redis.exists("flap")
    recovery.sweep(())
    assert redis.llen("flap") == 1


@pytest.mark.leaves("keys", reason="a queue's name that is no list")
def test_what_its_queue_refuses_is_held_on(redis: Redis, recovery: Recovery) -> None:
    """A user may lack rights on one list; others are recovered all the same."""
    redis.set("refused", "no list", ex=60)
    _hold(redis, {TAG: f'[{_message(0)},"","refused"]', "u@1-1/1.0": f'[{_message(0)},"","ok"]'})
    recovery.sweep(())
    recovery.interrupted_by(ResponseError("WRONGTYPE"))
    _hold(redis, {"v@1-1/1.0": f'[{_message(0)},"","ok"]'})
    recovery.sweep(())
    assert redis.hkeys(UNACKED) == [TAG.encode()]
    assert redis.llen("ok") == 2


def test_a_burial_that_is_refused_is_tried_again(redis: Redis, recovery: Recovery) -> None:
    """The list of dead letters may be closed to the user; the message is held as long."""
    redis.set("closed.dead", "no list", ex=60)
    _hold(redis, {TAG: f'[{_message(4)},"","closed"]'})
    recovery.sweep(())
    for _ in range(2):
        (burial,) = recovery.burials()
        with pytest.raises(ResponseError):
            recovery.bury(burial)
    redis.delete("closed.dead")
    (burial,) = recovery.burials()
    recovery.bury(burial)
    assert redis.llen("closed.dead") == 1
    assert not redis.exists(UNACKED, INDEX)


def test_a_full_redis_takes_back_what_it_has_already(redis: Redis, recovery: Recovery) -> None:
    """Moving a message takes no room: a worker that stops can give its jobs back."""
    _hold(redis, {TAG: f'[{_message(0)},"","full"]'})
    scripts = Scripts(redis, KEYS)
    redis.config_set("maxmemory", 1)
    try:
        assert scripts.restore([Move(TAG, "+inf", "full", _message(0), first=True)]) == [True]
    finally:
        redis.config_set("maxmemory", 0)
    assert redis.llen("full") == 1
