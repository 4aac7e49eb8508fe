"""A canvas is sent in whole, however long it is, or leaves nothing; others are served meanwhile."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Signature, chain, chord, group
from quart import Quart

from service import JobGroup, create_app, enqueue
from service.errors import BrokerUnavailableError, InvalidArgumentsError
from service.jobs.job import Job
from service.jobs.sending.journal import Journals
from service.parts import parts_of
from service.redis.keys import RECORD
from service.tasks.demo import my_add
from tests.support.sample_tasks import add, total
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async

TIMEOUT = 1.5
MANY = 3_000


@pytest.fixture
async def app(own_valkey: Valkey) -> AsyncIterator[Quart]:
    app = create_app(
        {
            "SERVICE_REDIS_URL": own_valkey.url,
            "SERVICE_ENQUEUE_TIMEOUT": TIMEOUT,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
        }
    )
    async with app.test_app(), app.app_context():
        yield app


def sent(valkey: Valkey) -> list[str]:
    """The ids of the jobs that wait, oldest first."""
    with valkey.client() as redis:
        texts = redis.lrange("celery", 0, -1)
    return [json.loads(text)["headers"]["id"] for text in reversed(texts)]


def keys(valkey: Valkey) -> list[str]:
    with valkey.client() as redis:
        return sorted(map(str, redis.keys()))


async def test_a_long_group_is_no_outage(app: Quart, own_valkey: Valkey) -> None:
    """The timeout is for waiting: Python's own time, to make the messages, does not count."""

    def members() -> Iterator[Signature]:
        for n in range(MANY):
            if n % (MANY // 10) == 0:
                time.sleep(TIMEOUT / 6)
            yield add.s(n, n)

    jobs = await enqueue(group(members()))
    assert isinstance(jobs, JobGroup)
    # An object for each member would lengthen every full pass of the garbage collector.
    assert sum(type(each) is Job and each.task == "sample.add" for each in gc.get_objects()) < MANY
    ids = [job.id for job in jobs.jobs]
    assert len(set(ids)) == MANY
    assert sent(own_valkey) == ids
    with own_valkey.client() as redis:
        records = redis.mget([RECORD + job_id for job_id in ids])
        headers = json.loads(str(redis.lindex("celery", 0)))["headers"]
        assert redis.keys("service:journal*") == []
    assert {json.loads(str(one))["status"] for one in records} == {"QUEUED"}
    assert headers["group"] == jobs.id
    assert headers["group_index"] == MANY - 1


async def test_a_long_canvas_of_any_kind_is_known_in_whole(app: Quart, own_valkey: Valkey) -> None:
    """The jobs that follow, too; and what is within a group is as Celery would have it."""
    body = await enqueue(chord([add.s(n, n) for n in range(250)], total.s()))
    pairs: Any = group(group(add.s(n, 1), add.s(n, 2)) for n in range(101))
    chains: Any = group(chain(add.s(n, 1), add.s(2)) for n in range(201))
    ends: Any = group(chain(add.s(n, 1), group(add.s(2), add.s(3))) for n in range(101))
    flat, last, nested = await enqueue(pairs), await enqueue(chains), await enqueue(ends)
    assert isinstance(body, Job)
    assert isinstance(flat, JobGroup)
    assert isinstance(last, JobGroup)
    assert isinstance(nested, JobGroup)
    assert [len(each.jobs) for each in (flat, last, nested)] == [202, 201, 101]
    assert {type(each) for each in nested.jobs} == {JobGroup}
    assert len(sent(own_valkey)) == 250 + 202 + 201 + 101
    with own_valkey.client() as redis:
        assert len(redis.keys(RECORD + "*")) == 251 + 202 + 402 + 303
        assert redis.get(f"celery-taskset-meta-{headers_of(redis, -1)['group']}.s") == "250"
        assert json.loads(str(redis.get(RECORD + body.id)))["name"] == "sample.total"


def headers_of(redis: Any, index: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(redis.lindex("celery", index)))["headers"]
    return found


async def test_what_is_wrong_at_its_end_leaves_nothing_of_a_long_group(
    app: Quart, own_valkey: Valkey
) -> None:
    """Neither a message, nor a record, nor what was put aside."""
    members = [my_add.si(n, n) for n in range(1_000)]
    with pytest.raises(InvalidArgumentsError, match=r"demo\.my_add.*JSON"):
        await enqueue(group([*members, my_add.si({1}, 2)]))
    assert keys(own_valkey) == []


@pytest.mark.parametrize("fault", ["silent", "full", "read-only", "cancelled"])
async def test_a_fault_half_way_leaves_nothing_of_a_long_group(
    app: Quart, own_valkey: Valkey, fault: str
) -> None:
    """What Redis can no longer be told to drop expires."""
    sending = asyncio.create_task(enqueue(group([add.s(n, n) for n in range(20_000)])))
    with own_valkey.client() as redis:
        await wait_until_async(lambda: redis.keys("service:journal:*"), description="a part")
        (journal,) = redis.keys("service:journal:*")
        assert 0 < redis.ttl(journal) <= 120
        if fault == "silent":
            own_valkey.freeze()
        elif fault == "full":
            redis.config_set("maxmemory", "1")
        elif fault == "read-only":
            redis.replicaof("127.0.0.1", "1")
        else:
            sending.cancel()
        await asyncio.wait([sending])
        if fault == "silent":
            own_valkey.thaw()
        redis.replicaof("NO", "ONE")
        if fault == "cancelled":
            assert sending.cancelled()
        else:
            error = sending.exception()
            assert isinstance(error, BrokerUnavailableError)
            assert not error.maybe_accepted
        left = [key for key in keys(own_valkey) if redis.ttl(key) == -1]
        assert left == []
        assert set(keys(own_valkey)) <= {journal}


async def test_a_committed_canvas_is_sent_to_its_end_by_whoever_is_there(
    app: Quart, own_valkey: Valkey
) -> None:
    """Also where its sender ended half-way; what was sent before is not sent again."""
    parts = parts_of(app)
    journal = Journals(parts.redis, parts.keys, timeout=20).begin()
    for batch in range(3):
        arguments: list[Any] = [60]
        for number in range(2):
            job_id = f"{batch}-{number}"
            message = json.dumps({"headers": {"id": job_id}})
            arguments += [RECORD + job_id, "{}", message, 1, "LPUSH", "celery", ""]
        await journal.add(arguments)
    await journal.commit()
    with own_valkey.client() as redis:
        (key,) = redis.zrange("service:journals", 0, -1)
        assert redis.ttl(key) == -1
        redis.set(RECORD + "0-0", "{}", ex=60)  # as if the first were sent before
        redis.zincrby("service:journals", -60, key)
    other = Journals(parts.redis, parts.keys, timeout=0.3)  # by which it looks every three seconds
    looking = asyncio.create_task(other.finish_abandoned())
    try:
        await wait_until_async(
            lambda: len(sent(own_valkey)) == 5, description="all others are sent"
        )
        assert sent(own_valkey) == ["0-1", "1-0", "1-1", "2-0", "2-1"]
        await wait_until_async(
            lambda: not [key for key in keys(own_valkey) if key.startswith("service:")],
            description="nothing is left of the journal",
        )
    finally:
        looking.cancel()


async def test_a_journal_that_lost_a_part_is_not_sent(app: Quart, own_valkey: Valkey) -> None:
    """As when Redis evicted it, or was emptied."""
    parts = parts_of(app)
    journal = Journals(parts.redis, parts.keys, timeout=20).begin()
    await journal.add([60])
    own_valkey.flush()
    await journal.add([60])
    with pytest.raises(BrokerUnavailableError) as caught:
        await journal.commit()
    assert not caught.value.maybe_accepted
    assert keys(own_valkey) == []


async def test_a_chord_whose_size_cannot_be_stored_is_one_error_in_time(
    app: Quart, own_valkey: Valkey
) -> None:
    """Celery itself tries for twenty seconds."""
    own_valkey.freeze()
    async with asyncio.timeout(15):
        with pytest.raises(BrokerUnavailableError):
            await enqueue(chord([add.s(1, 1), add.s(2, 2)], total.s()))
    own_valkey.thaw()
