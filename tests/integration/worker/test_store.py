"""store.lua and the writer on a real server: what ended stays ended, and many go at once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.task import Context
from redis import Redis as SyncRedis

from service import create_app, get_celery
from service.errors import UnstorableResultError
from service.redis.clients import connect
from service.settings import Settings
from service.worker.loop.bridge import Bridge, await_
from service.worker.loop.process import process_of
from service.worker.results.writer import STORE, RecordWrite, ResultsWriter, store_blocking
from tests.support.valkey import Valkey
from tests.support.wait import PATIENCE, wait_until, wait_until_async

pytestmark = pytest.mark.leaves("keys", reason="they write records under keys of their own")

ENDS = ["SUCCESS", "FAILURE", "REVOKED"]


def record(state: str, **more: object) -> str:
    return json.dumps({"status": state, "result": None, **more})


def write_of(key: str, state: str, ttl: int = 60, **more: object) -> RecordWrite:
    return RecordWrite(key.encode(), record(state, **more), ttl, final=state in ENDS)


def state_of(client: SyncRedis, key: str) -> str:
    return str(json.loads(client.get(key))["status"])  # type: ignore[arg-type]  # maybe awaitable


@pytest.fixture
def client(redis_url: str) -> Iterator[SyncRedis]:
    with SyncRedis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def writer(redis_url: str) -> AsyncIterator[ResultsWriter]:
    writer = ResultsWriter(
        connect(Settings(redis_url=redis_url, redis_timeout=20)),
        asyncio.get_running_loop(),
        timeout=20,
    )
    yield writer
    await writer.close()


@pytest.mark.parametrize("later", ["STARTED", "PROGRESS", "RETRY", *ENDS])
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_ended_stays_ended(client: SyncRedis, end: str, later: str) -> None:
    """A second run or a late report must not overwrite what a client may have read."""
    script = client.register_script(STORE.text)
    assert script(keys=["job"], args=[record("STARTED"), 60]) == [1]
    assert script(keys=["job"], args=[record(end, mark="first"), 60]) == [1]
    assert script(keys=["job"], args=[record(later, mark="second"), 60]) == [0]
    assert state_of(client, "job") == end
    assert "first" in str(client.get("job"))


def test_the_end_is_seen_in_records_of_others(client: SyncRedis) -> None:
    """Stock workers write without blanks or with fields in another order; some write no JSON."""
    script = client.register_script(STORE.text)
    client.set("tight", '{"status":"SUCCESS","result":1}', ex=60)
    client.set("turned", '{"result": {"status": "STARTED"}, "status": "SUCCESS"}', ex=60)
    client.set("inner", '{"result": {"status": "SUCCESS"}, "status": "STARTED"}', ex=60)
    client.set("broken", "no JSON at all", ex=60)
    keys = ["tight", "turned", "inner", "broken"]
    assert script(keys=keys, args=[record("FAILURE"), 60] * 4) == [0, 0, 1, 1]


def test_one_bad_record_takes_no_other_with_it(client: SyncRedis) -> None:
    """A batch holds the results of jobs that have nothing to do with each other."""
    client.lpush("list", "not a record")
    outcome = client.register_script(STORE.text)(
        keys=["one", "list", "two"], args=[record("SUCCESS"), 60] * 3
    )
    assert (outcome[0], outcome[2]) == (1, 1)
    assert "WRONGTYPE" in outcome[1]


def test_a_record_lives_as_long_as_asked_for(client: SyncRedis) -> None:
    """0 is Celery's way to say for ever."""
    client.register_script(STORE.text)(
        keys=["short", "long"], args=[record("SUCCESS"), 60, record("SUCCESS"), 0]
    )
    assert 0 < int(client.ttl("short")) <= 60
    assert client.ttl("long") == -1
    client.delete("long")


async def test_many_records_take_one_round_trip(client: SyncRedis, writer: ResultsWriter) -> None:
    """And those who subscribed are told of each."""
    await writer.write(write_of("first", "SUCCESS"))  # connects, and loads the script
    client.config_resetstat()
    with client.pubsub() as subscriber:  # type: ignore[no-untyped-call]  # redis-py
        subscriber.subscribe("job-3")
        await asyncio.gather(*(writer.write(write_of(f"job-{n}", "SUCCESS")) for n in range(100)))
        messages = (subscriber.get_message(timeout=9) for _ in range(5))
        assert any(m and m["type"] == "message" and "SUCCESS" in m["data"] for m in messages)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert {state_of(client, f"job-{n}") for n in range(100)} == {"SUCCESS"}


async def test_only_the_newest_of_a_jobs_records_is_written(
    client: SyncRedis, writer: ResultsWriter
) -> None:
    """Nobody could have seen the others, and what is final stays."""
    writer.put(write_of("job", "STARTED"))
    ending = asyncio.create_task(writer.write(write_of("job", "SUCCESS")))
    await asyncio.sleep(0)
    writer.put(write_of("job", "PROGRESS"))
    await ending
    assert state_of(client, "job") == "SUCCESS"


async def test_an_idle_writer_writes_at_once_what_may_come_later(
    client: SyncRedis, writer: ResultsWriter
) -> None:
    """Somebody may be watching the only job that runs."""
    writer.put_later(b"job", lambda: write_of("job", "STARTED"))
    await wait_until_async(lambda: client.exists("job"), description="it is written")
    assert state_of(client, "job") == "STARTED"


async def test_a_busy_writer_does_not_even_make_the_record_of_a_short_jobs_start(
    client: SyncRedis, writer: ResultsWriter
) -> None:
    """It would cost as much as the result; of a job that goes on it is written soon."""
    made: list[str] = []

    def make(key: str) -> RecordWrite:
        made.append(key)
        return write_of(key, "STARTED")

    await writer.write(write_of("other", "SUCCESS"))
    for key in ("short", "long"):
        writer.put_later(key.encode(), partial(make, key))
    await writer.write(write_of("short", "SUCCESS"))
    await wait_until_async(lambda: client.exists("long"), description="the other is written")
    assert made == ["long"]
    assert state_of(client, "short") == "SUCCESS"


async def test_the_start_of_a_job_waits_its_time_whenever_the_others_have_waited(
    redis_url: str,
) -> None:
    """All that waited were written with the first one: a third of the jobs of a busy worker."""
    clock, made = _Clock(), list[str]()
    loop: Any = clock
    writer = ResultsWriter(connect(Settings(redis_url=redis_url, redis_timeout=20)), loop)

    def make(key: str) -> None:
        made.append(key)

    await writer.write(write_of("any", "SUCCESS"))
    writer.put_later(b"first", partial(make, "first"))
    clock.now += 0.08
    await writer.write(write_of("another", "SUCCESS"))  # it is still busy
    writer.put_later(b"second", partial(make, "second"))
    assert clock.fire() == pytest.approx(0.02)
    assert made == ["first"]
    assert clock.fire() == pytest.approx(0.08)
    assert made == ["first", "second"]
    await writer.close()


class _Clock:
    """A loop whose time stands still until its next timer is fired."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, Any]] = []
        self.create_future = asyncio.get_running_loop().create_future

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Any, **_: Any) -> None:
        self._timers.append((self.now + seconds, callback))

    def fire(self) -> float:
        """Go on to the moment of the next timer; how far that was."""
        (at, callback), before = self._timers.pop(0), self.now
        self.now = at
        callback()
        return at - before


async def test_the_starts_of_many_jobs_are_told_a_few_at_a_time(
    client: SyncRedis, writer: ResultsWriter
) -> None:
    """Thousands that start at once would stop the loop until the last record was made."""
    loop = asyncio.get_running_loop()
    made: list[int] = []  # in which turn of the loop
    turn = 0

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if len(made) < 250:
            loop.call_soon(count_turns)

    def make(key: str) -> RecordWrite:
        made.append(turn)
        return write_of(key, "STARTED")

    count_turns()
    keys = [f"job-{n}" for n in range(250)]
    for key in keys:
        writer.put_later(key.encode(), partial(make, key))
    await wait_until_async(lambda: client.exists(*keys) == 250, description="all are written")
    assert len(made) == 250
    assert max(Counter(made).values()) <= 100


async def test_a_record_that_cannot_be_made_keeps_no_other_from_being_written(
    client: SyncRedis, writer: ResultsWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made late, from what a body may have put into its request."""

    def fail() -> RecordWrite:
        raise RuntimeError("no record")

    writer.put_later(b"bad", fail)
    writer.put_later(b"none", lambda: None)
    writer.put_later(b"good", lambda: write_of("good", "STARTED"))
    await wait_until_async(lambda: client.exists("good"), description="the other is written")
    assert not client.exists("bad", "none")
    assert "no record" in caplog.text


def test_nothing_is_said_of_the_start_of_a_job_that_has_left(
    client: SyncRedis, redis_url: str
) -> None:
    """It was replaced or given back, and may be further elsewhere than to have started."""
    app = create_app({"SERVICE_REDIS_URL": redis_url})
    backend: Any = get_celery(app).backend
    process = process_of(app)
    loop = process.loop

    def start(job: str) -> None:
        backend.store_result(job, None, "STARTED", request=Context(id=job))

    async def goes_on() -> None:
        await process.writer.write(write_of("other", "SUCCESS"))  # busy: what may wait does
        await Bridge(start, "left").run()
        written: asyncio.Future[None] = loop.loop.create_future()

        def stay() -> None:
            start("stays")
            await_(written)

        stays = asyncio.create_task(Bridge(stay).run())
        key = backend.get_key_for_task("stays")
        await wait_until_async(lambda: client.exists(key), description="the other is told")
        written.set_result(None)
        await stays

    try:
        loop.run(goes_on())
        assert not client.exists(backend.get_key_for_task("left"))
    finally:
        loop.stop()


def test_a_state_set_in_a_thread_comes_after_the_start(own_valkey: Valkey) -> None:
    """Also where the start still waits for the records before it to be written."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url})
    backend: Any = get_celery(app).backend
    process = process_of(app)
    made: list[str] = []  # one entry for each record: its children are asked for
    child: Any = SimpleNamespace(as_tuple=lambda: made.append("record"))
    request = Context(id="job")
    request.children.append(child)

    def job() -> None:
        await_(process.writer.write(write_of("before", "SUCCESS")))
        backend.client.ping()  # so that the thread's connection is open, too
        own_valkey.freeze()
        process.writer.put(write_of("other", "SUCCESS"))
        backend.store_result("job", None, "STARTED", None, request)
        await_(wait_until_async(lambda: len(made) == 1, description="the start is on its way"))
        told = threads.submit(backend.store_result, "job", {}, "PROGRESS", None, request)
        await_(wait_until_async(lambda: len(made) == 2, description="the state is on its way"))
        own_valkey.thaw()
        await_(asyncio.wrap_future(told))
        await_(process.writer.write(write_of("after", "SUCCESS")))

    try:
        with ThreadPoolExecutor() as threads, own_valkey.client() as client:
            process.loop.run(Bridge(job).run())
            assert state_of(client, backend.get_key_for_task("job")) == "PROGRESS"
    finally:
        process.loop.stop()


async def test_a_record_that_redis_refuses_is_told_to_its_writer(
    client: SyncRedis, writer: ResultsWriter
) -> None:
    """Waiting would not help: the key is of another kind."""
    client.lpush("list", "not a record")
    with pytest.raises(UnstorableResultError, match="WRONGTYPE"):
        await writer.write(write_of("list", "SUCCESS"))
    client.delete("list")


async def test_the_writer_insists_until_redis_is_back(own_valkey: Valkey) -> None:
    """However it went away; and whoever waits may be cancelled meanwhile."""
    writer = ResultsWriter(
        connect(Settings(redis_url=own_valkey.url, redis_timeout=0.5)),
        asyncio.get_running_loop(),
        timeout=0.5,
    )
    try:
        await writer.write(write_of("before", "SUCCESS"))
        own_valkey.kill()
        kept = asyncio.create_task(writer.write(write_of("kept", "SUCCESS")))
        dropped = asyncio.create_task(writer.write(write_of("dropped", "SUCCESS")))
        await asyncio.wait({kept, dropped}, timeout=0.3)
        dropped.cancel()
        assert not kept.done()
        own_valkey.start()
        await asyncio.wait_for(kept, PATIENCE)
        with own_valkey.client() as client:
            assert state_of(client, "kept") == "SUCCESS"
    finally:
        await writer.close()


async def test_a_full_server_is_waited_for(own_valkey: Valkey) -> None:
    """OOM is an answer of Redis, not a fault of the record."""
    writer = ResultsWriter(
        connect(Settings(redis_url=own_valkey.url)), asyncio.get_running_loop(), timeout=0.5
    )
    with own_valkey.client() as client:
        try:
            await writer.write(write_of("before", "SUCCESS"))
            client.config_set("maxmemory", "1")
            waiting = asyncio.create_task(writer.write(write_of("job", "SUCCESS")))
            await asyncio.wait({waiting}, timeout=0.3)
            assert not waiting.done()
            client.config_set("maxmemory", "0")
            await asyncio.wait_for(waiting, PATIENCE)
            assert state_of(client, "job") == "SUCCESS"
        finally:
            await writer.close()


@pytest.mark.parametrize("marks", [{}, {"owner": "ada"}], ids=["plain", "owned"])
async def test_those_who_follow_hear_of_an_end_whose_publish_was_refused(
    own_valkey: Valkey, marks: dict[str, str]
) -> None:
    """The record was stored by then; the next attempt found it there, and told nobody."""
    writer = ResultsWriter(
        connect(Settings(redis_url=own_valkey.url)), asyncio.get_running_loop(), timeout=0.5
    )
    queued = json.dumps({"status": "QUEUED", **marks, "result": None})
    with own_valkey.client() as client, client.pubsub() as follower:
        try:
            await writer.write(write_of("before", "SUCCESS"))
            client.set("job", queued, ex=60)
            follower.subscribe("job")
            client.acl_setuser("default", enabled=True, commands=["-publish"])
            waiting = asyncio.create_task(writer.write(write_of("job", "SUCCESS")))
            await wait_until_async(
                lambda: state_of(client, "job") == "SUCCESS", description="it is stored"
            )
            assert not waiting.done()
            client.acl_setuser("default", enabled=True, categories=["+@all"])
            await asyncio.wait_for(waiting, PATIENCE)
            messages = (follower.get_message(timeout=1) for _ in range(3))
            told = [m["data"] for m in messages if m and m["type"] == "message"]
            assert told == [client.get("job")]
        finally:
            client.acl_setuser("default", enabled=True, categories=["+@all"])
            await writer.close()


@pytest.mark.parametrize("stale", ["yes", "no"])  # READONLY from inside the script; MASTERDOWN
async def test_a_demoted_server_is_left_for_whatever_its_address_leads_to_now(
    own_valkey: Valkey, stale: str
) -> None:
    """A result is kept, and each attempt is on a new connection."""
    writer = ResultsWriter(
        connect(Settings(redis_url=own_valkey.url)), asyncio.get_running_loop(), timeout=0.5
    )
    with own_valkey.client() as client:
        try:
            await writer.write(write_of("before", "SUCCESS"))
            before = {each["id"] for each in client.client_list()}
            client.config_set("replica-serve-stale-data", stale)
            client.replicaof("127.0.0.1", "1")
            waiting = asyncio.create_task(writer.write(write_of("job", "SUCCESS")))
            own = {str(client.client_id())}
            await wait_until_async(
                lambda: before & {each["id"] for each in client.client_list()} == own,
                description="its connection was left",
            )
            assert not waiting.done()
            client.replicaof("NO", "ONE")
            await asyncio.wait_for(waiting, PATIENCE)
            assert state_of(client, "job") == "SUCCESS"
        finally:
            await writer.close()


def test_the_blocking_backend_leaves_a_demoted_server_too(own_valkey: Valkey) -> None:
    """It stores where there is no event loop."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url})
    backend: Any = get_celery(app).backend
    with own_valkey.client() as client, ThreadPoolExecutor() as threads:
        store_blocking(backend.client, write_of("before", "SUCCESS"))
        before = {each["id"] for each in client.client_list()}
        client.replicaof("127.0.0.1", "1")
        waiting = threads.submit(store_blocking, backend.client, write_of("job", "SUCCESS"))
        own = {str(client.client_id())}
        wait_until(
            lambda: before & {each["id"] for each in client.client_list()} == own,
            description="its connection was left",
        )
        assert not waiting.done()
        client.replicaof("NO", "ONE")
        waiting.result(PATIENCE)
        assert state_of(client, "job") == "SUCCESS"
