"""Scheduled jobs wait in Redis: no worker holds them, and the server's clock begins them."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service import create_app
from service.broker.scripts import QueueList, Scripts, Take, Taken
from service.redis.keys import RECORD, BrokerKeys
from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.fault_tasks import noop
from tests.support.serving import PATIENT
from tests.support.slow_commands import none_slower_than
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

KEYS = BrokerKeys()
LATER = "celery.scheduled"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the session's server."""
    with Redis.from_url(redis_url) as client:
        yield client


def _now(redis: Redis) -> float:
    whole, micros = redis.time()
    return float(whole + micros / 1_000_000)


def _message(tag: str, eta: object = None, **fields: object) -> str:
    headers = {"task": "t", "id": tag, "eta": eta}
    return json.dumps({"headers": headers, "properties": {"delivery_tag": tag}, **fields})


def _in(redis: Redis, seconds: float) -> str:
    """A moment by the server's clock, as Python writes it."""
    return datetime.fromtimestamp(_now(redis) + seconds, UTC).isoformat()


def _take(redis: Redis, *queues: str, free: int = 10, waiter: str = "w") -> Taken:
    lists = tuple(QueueList(name, name.partition("\x06")[0]) for name in queues or ("celery",))
    return Scripts(redis, KEYS).take(Take(KEYS, lists, free, 0, 30.0, waiter=waiter))


def _tags(taken: Taken) -> list[str]:
    return [delivery.ident for delivery in taken.deliveries]


def test_what_is_not_due_yet_waits_in_redis_under_no_lease(redis: Redis) -> None:
    """A worker that held it would have to renew its lease, and might die with thousands."""
    redis.lpush("celery", _message("later", _in(redis, 3600)), _message("now"))
    taken = _take(redis)
    assert _tags(taken) == ["now"]
    assert redis.hlen("unacked") == redis.zcard("unacked_index") == redis.zcard(LATER) == 1
    again = _take(redis)
    assert (again.verdict, again.deliveries) == ("active", ())
    assert again.next_due == 60.0  # no waiter is to sleep for an hour


def test_what_has_become_due_is_taken_before_what_waits(redis: Redis) -> None:
    """In the order in which it became due, within its priority; as when a worker's timer fired."""
    scheduled = {_message(tag): _now(redis) - ago for tag, ago in [("a", 9), ("c", 7), ("b", 8)]}
    redis.zadd(LATER, scheduled)
    redis.zadd("celery\x06\x163.scheduled", {_message("low"): 1})
    redis.lpush("celery", _message("waiting"))
    lists = ("celery", "celery\x06\x163")
    first = _take(redis, *lists, free=2)
    assert _tags(first) == ["a", "b"]
    assert all(delivery.is_due for delivery in first.deliveries)
    second = _take(redis, *lists)
    assert _tags(second) == ["c", "waiting", "low"]
    assert [delivery.is_due for delivery in second.deliveries] == [True, False, True]


@pytest.mark.parametrize("hours", [0, -7, 5.5, None])
@pytest.mark.parametrize(
    "moment",
    [datetime(2028, 2, 29, 23, 59, 59, 250_000), datetime(2031, 12, 31), datetime(2100, 3, 1)],
)
def test_every_eta_of_pythons_is_read(redis: Redis, moment: datetime, hours: float | None) -> None:
    """Without an offset it is UTC, as to Celery's worker."""
    zone = None if hours is None else timezone(timedelta(hours=hours))
    redis.lpush("celery", _message("later", moment.replace(tzinfo=zone).isoformat()))
    _take(redis)
    found: Any = redis.zrange(LATER, 0, -1, withscores=True)
    assert [score for _, score in found] == [moment.replace(tzinfo=zone or UTC).timestamp()]


@pytest.mark.parametrize("eta", ["tomorrow", 17, "2100-W01-1", "", None, ["2100-01-01T00:00:00"]])
def test_what_cannot_be_read_as_an_eta_is_left_to_celery(redis: Redis, eta: object) -> None:
    """It says of such a job what is wrong with it, or waits for it."""
    redis.lpush("celery", _message("odd", eta))
    (delivery,) = _take(redis).deliveries
    assert not delivery.is_due


def test_the_servers_word_counts_and_not_the_publishers_clock(redis: Redis) -> None:
    """The publisher's own clock, of which the ETA is made, may be hours off."""
    late, early = _in(redis, 3600), _in(redis, -3600)
    redis.lpush("celery", _message("due", late, due=_now(redis) - 1))
    redis.lpush("celery", _message("later", early, due=_now(redis) + 60))
    (delivery,) = _take(redis).deliveries
    assert (delivery.ident, delivery.is_due) == ("due", True)
    assert redis.zcard(LATER) == 1


def test_a_waiter_knows_when_the_next_is_due(redis: Redis) -> None:
    """So it need not look more often than before, and begins it in time."""
    redis.lpush("celery", *(_message(str(n), _in(redis, n)) for n in (50, 20, 40)))
    next_due = _take(redis).next_due
    assert next_due is not None
    assert 19 < next_due <= 20


def test_many_are_put_aside_in_steps(redis: Redis) -> None:
    """One script that moved a hundred thousand would hold up all others."""
    redis.lpush("celery", *(_message(str(n), _in(redis, 60)) for n in range(500)), _message("now"))
    assert _take(redis).verdict == "taken"  # there is more: ask again
    assert 50 <= redis.zcard(LATER) <= 300
    for _ in range(10):
        if _tags(_take(redis)) == ["now"]:
            break
    assert redis.zcard(LATER) == 500
    assert not redis.exists("celery")


def test_waiters_of_before_a_step_back_of_the_clock_are_forgotten(redis: Redis) -> None:
    """Dead ones would count as active for as long as the clock was set back."""
    _take(redis, waiter="a")
    (doors,) = redis.keys("*:doors")
    redis.zadd(doors, {"dead": _now(redis) + 600, "gone": _now(redis) + 600})
    assert _take(redis, waiter="b").verdict == "active"


def _scheduled(bench: Bench) -> int:
    return int(bench.redis.zcard(LATER))


@pytest.mark.parametrize("pool", [*MAINLY_ASYNCIO, "solo"])
def test_a_killed_worker_takes_no_scheduled_job_along(bench: Bench, pool: str) -> None:
    """Another one begins them when they are due, and not a lease later."""
    bench.options["lease"] = 60
    with bench.worker("doomed", pool=pool, concurrency=1) as doomed:
        ready(doomed)
        jobs = [bench.send("work", f"j{n}", countdown=4) for n in range(5)]
        wait_until(lambda: _scheduled(bench) == 5, description="they wait in Redis")
        assert not bench.redis.exists("unacked")
        doomed.kill()
    with bench.worker("heir", pool=pool, concurrency=1) as heir:
        ready(heir)
        for job in jobs:
            bench.wait_for(job)
        bench.wait_until_empty()
    assert [bench.count("start", f"j{n}") for n in range(5)] == [1] * 5


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_hundred_thousand_outlive_a_killed_worker(tmp_path: Path) -> None:
    """No lease of the other one is lost meanwhile, and the server is never held up for long."""
    many, at_once, lease = 100_000, 1_000, 30.0
    (tmp_path / "valkey").mkdir()
    with (
        Valkey(tmp_path / "valkey") as valkey,
        Bench(valkey.url, tmp_path, lease=lease) as bench,
        bench.worker("doomed", pool="asyncio", concurrency=50) as doomed,
        bench.worker("heir", pool="asyncio", concurrency=50) as heir,
    ):
        ready(doomed, heir)
        app = create_app({**bench.settings(), **PATIENT})
        async with app.test_app(), app.app_context():
            with none_slower_than(valkey, 20):
                later = noop.options(eta=datetime.now(UTC) + timedelta(seconds=120))
                ids: list[str] = []
                while len(ids) < many:
                    ids += [
                        job.id
                        for job in await asyncio.gather(*[later.enqueue() for _ in range(at_once)])
                    ]
                wait_until(lambda: _scheduled(bench) == many, timeout=120, description="all wait")
                doomed.kill()
                wait_until(bench.is_empty, timeout=600, description="all have run")
        states: Counter[str] = Counter()
        for start in range(0, many, at_once):
            keys = [RECORD + job_id for job_id in ids[start : start + at_once]]
            states.update(json.loads(str(one))["status"] for one in bench.redis.mget(keys))
        assert states == {"SUCCESS": many}
        assert "was lost" not in heir.output
        assert heir.stop() == 0


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
@pytest.mark.parametrize("stock", [False, True], ids=["our-client", "stock-client"])
def test_a_job_sees_its_eta_and_a_retry_waits_in_redis(
    bench: Bench, pool: str, stock: bool
) -> None:
    """To its body nothing has changed, whoever has sent it."""
    with bench.worker(pool=pool, concurrency=1) as worker:
        ready(worker)
        job = bench.send("retry_later", "r", 1.5, stock=stock, countdown=0.5)
        bench.wait_for_note("start", "r")
        wait_until(lambda: _scheduled(bench) == 1, description="its retry waits in Redis")
        assert not bench.redis.exists("unacked")
        bench.wait_for(job)
        assert bench.result(job)["result"] is True
        bench.wait_until_empty()
    first, second = bench.times("start", "r")
    assert second - first >= 1.4


def test_a_countdown_goes_by_the_servers_clock(bench: Bench) -> None:
    """The web process's clock is an hour ahead; an ETA that it made would be an hour late."""
    bench.web.set_clock(3600)
    with bench.worker(pool="asyncio") as worker:
        ready(worker)
        job = bench.send("work", "j", countdown=0.5)
        bench.wait_for(job)


@pytest.mark.parametrize("prefix", ["", "mine:"])
def test_what_waits_beside_a_queue_is_purged_with_it(bench: Bench, prefix: str) -> None:
    """`celery purge` promises that nothing waits any more: scheduled, or of a paused task."""
    bench.options["global_keyprefix"] = prefix
    keys = BrokerKeys(prefix=prefix)
    first, *_, last = keys.lists_of("celery")
    paused, other = keys.list_of_paused(last, "t"), keys.list_of_paused(f"{prefix}other", "t")
    with bench.client().connection_for_write() as connection:
        bench.redis.zadd(f"{first}.scheduled", {"a": 1})
        bench.redis.zadd(f"{last}.scheduled", {"b": 1})
        bench.redis.lpush(first, "c")
        bench.redis.lpush(paused, "d", "e")
        bench.redis.lpush(other, "f")
        bench.redis.hset(keys.paused_lists, mapping={paused: last, other: f"{prefix}other"})
        channel: Any = connection.default_channel
        assert channel.queue_purge("celery") == 5
    assert bench.is_empty()
    assert not bench.redis.exists(*keys.scheduled_of("celery"), paused)
    assert bench.redis.hgetall(keys.paused_lists) == {other: f"{prefix}other"}
    assert bench.redis.delete(other, keys.paused_lists) == 2


def _starts(bench: Bench, labels: Sequence[str]) -> list[float]:
    return [bench.times("start", label)[0] for label in labels]


@pytest.mark.parametrize("pool", [*MAINLY_ASYNCIO, "solo"])
def test_a_job_begins_as_soon_as_it_is_due(bench: Bench, pool: str) -> None:
    """By far more often than not long before a worker would ask again by itself."""
    delays = []
    with bench.worker(pool=pool, concurrency=4) as worker:
        ready(worker)
        bench.wait_for(bench.send("work", "warm"))
        etas = [datetime.now(UTC) + timedelta(seconds=1 + n * 0.37) for n in range(12)]
        jobs = [bench.send("work", f"j{n}", eta=eta) for n, eta in enumerate(etas)]
        for job in jobs:
            bench.wait_for(job)
        starts = _starts(bench, [f"j{n}" for n in range(12)])
        delays = [begun - eta.timestamp() for begun, eta in zip(starts, etas, strict=True)]
    assert min(delays) >= 0
    assert sorted(delays)[6] < 0.25, delays
