"""The recorder and the reader, against a real Valkey."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from quart import Quart
from redis import Redis

from service import create_app
from service.dashboard.events.recent import Query, decode_events
from service.dashboard.events.recorder import Recorder
from service.dashboard.events.stats import by_task, read_bucket, together
from service.dashboard.extension import dashboard_of
from service.redis.keys import RECORD, ResultKeys
from service.settings import read_settings
from service.signals import JobEvent, WorkerStatus
from tests.support.process import Process
from tests.support.serving import PATIENT
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

KEEP = 100
KEYS = ResultKeys()


# Ways in which a process sends a job and ends; none of them shuts the app down.
SENDER: Final = """
import asyncio, os, signal, sys
from service import create_app, get_celery
from service.tasks.demo import my_add

app, queue = create_app(), sys.argv[1]

async def send():
    if queue == "started":
        await app.startup()
    async with app.app_context():
        await my_add.options(queue=queue).enqueue(1, 2)

if queue == "celery-alone":
    get_celery(app).tasks["demo.my_add"].apply_async((1, 2), queue=queue)
else:
    asyncio.run(send())
if queue == "in-context":  # a forked child ends in the same way
    if child := os.fork():
        os.waitpid(child, 0)
for server in sys.argv[2:]:
    os.kill(int(server), signal.SIGKILL)
"""


def recorder_on(redis_url: str, timeout: float = 20) -> Recorder:
    """One that is patient on a busy machine, or soon gives up."""
    settings = {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_REDIS_TIMEOUT": timeout,
        "SERVICE_RECENT_JOBS": KEEP,
        "SERVICE_RESULT_EXPIRES": 60,
    }
    return Recorder(read_settings(settings))


@pytest.fixture
async def recorder(redis_url: str) -> AsyncIterator[Recorder]:
    recorder = recorder_on(redis_url)
    yield recorder
    await recorder.aclose()


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Quart]:
    timeout = 20  # seconds: a busy machine may need more than the default 2
    settings = {"SERVICE_REDIS_TIMEOUT": timeout, "SERVICE_RECENT_JOBS": KEEP}
    app = create_app({"SERVICE_REDIS_URL": redis_url, **settings})
    async with app.test_app():
        yield app


def sender(redis_url: str, queue: str, *servers: int) -> Process:
    """A process that sends a job, kills these servers, and ends."""
    command = [sys.executable, "-W", "ignore", "-c", SENDER, queue, *map(str, servers)]
    return Process(command, env={"SERVICE_REDIS_URL": redis_url, **PATIENT})


def events_sent(redis: Redis) -> int:
    newest: Any = redis.xrevrange(KEYS.recent_jobs, count=1)
    return int(newest[0][1]["n"]) if newest else 0


def event(number: int, state: str = "SUCCESS", *, age: float = 0) -> JobEvent:
    now = time.time() - age
    finished = None if state == "STARTED" else now
    return JobEvent(f"job-{number}", state, "a.task", now, "w@h", now - 2, now - 1, finished)


def status(*, running: int = 1, lease_age: float | None = None) -> WorkerStatus:
    return WorkerStatus(
        pool="solo",
        capacity=4,
        running=running,
        deliveries={"celery": 3},
        queues=["x"],
        started_at=0.0,
        lease_age=lease_age,
    )


async def test_what_was_recorded_is_shown(recorder: Recorder, app: Quart, valkey: Valkey) -> None:
    """By its thread, within a second or so, without anybody asking for it."""
    recorder.record(event(1))
    recorder.record(event(2, "FAILURE"))
    reader = dashboard_of(app).reader
    with valkey.client() as redis:
        wait_until(lambda: events_sent(redis) == 2, description="both are reported")
    now = await reader.refresh()
    assert now.jobs == 2
    assert [job.id for job in reader.jobs.find(Query(state="FAILURE")).jobs] == ["job-2"]
    assert (now.tasks["a.task"].ok, now.tasks["a.task"].failed) == (1, 1)
    assert now.tasks["a.task"].mean == pytest.approx(1, abs=0.01)


async def test_jobs_of_a_process_that_ends_at_once_are_shown(
    redis_url: str, app: Quart, valkey: Valkey
) -> None:
    """And their queues, which nobody else knows. A forked child tells nothing of its parent's."""
    queues = {"started", "in-context", "celery-alone"}
    with ExitStack() as stack:
        senders = [sender(redis_url, queue) for queue in queues]
        for process in [stack.enter_context(each) for each in senders]:
            assert process.wait() == 0
            assert "Traceback" not in process.output
    now, jobs = await dashboard_of(app).reader.refresh(), dashboard_of(app).reader.jobs
    found = [(job.queue, job.state) for job in jobs.find(Query()).jobs]
    assert sorted(found) == [(queue, "QUEUED") for queue in sorted(queues)]
    assert {queue.name: queue.waiting for queue in now.queues if queue.name in queues} == (
        dict.fromkeys(queues, 1)
    )
    with valkey.client() as redis:
        assert events_sent(redis) == len(queues)
        redis.flushdb()


@pytest.mark.slow
def test_a_process_ends_in_order_if_redis_has_gone(own_valkey: Valkey) -> None:
    """It says once what the dashboard lacks."""
    with sender(own_valkey.url, "in-context", own_valkey.pid) as process:
        assert process.wait() == 0
        assert process.output.count("Redis is away") == 1
        assert "Traceback" not in process.output


async def test_many_lookers_are_one_reader(app: Quart, valkey: Valkey) -> None:
    """However many look, Redis is asked once a second."""
    reader = dashboard_of(app).reader
    await reader.refresh()
    with valkey.client() as redis:
        before = redis.info("stats")["total_commands_processed"]
        for _ in range(200):
            await reader.refresh()
        # What is more than our own INFO is the app's one reading, if the second was over.
        assert redis.info("stats")["total_commands_processed"] - before < 20


async def test_a_report_that_comes_twice_counts_once(own_valkey: Valkey) -> None:
    """Its answer was lost, so it was sent again."""
    recorder = recorder_on(own_valkey.url, timeout=0.3)
    recorder.take_over()
    recorder.record(event(1))
    wait_until(recorder.report, description="it is reported")
    recorder.record(event(2))
    own_valkey.freeze()
    assert not recorder.report()
    own_valkey.thaw()
    with own_valkey.client() as redis:
        wait_until(lambda: events_sent(redis) == 2, description="it has arrived all the same")
    wait_until(recorder.report, description="it is sent again")
    await recorder.aclose()
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url, "SERVICE_REDIS_TIMEOUT": 20})
    async with app.test_app():
        assert (await dashboard_of(app).reader.refresh()).tasks["a.task"].ok == 2


async def test_only_so_many_jobs_are_kept(recorder: Recorder, app: Quart, valkey: Valkey) -> None:
    """In Redis, and in the list, which has the newest."""
    recorder.take_over()
    for start in range(0, 2000, 500):
        for number in range(start, start + 500):
            recorder.record(event(number))
        assert recorder.report()
    with valkey.client() as redis:
        entries: Any = redis.xrange(KEYS.recent_jobs)
    assert sum(len(decode_events(entry["rows"].encode())) for _, entry in entries) == 3 * KEEP
    reader = dashboard_of(app).reader
    assert (await reader.refresh()).jobs == KEEP
    assert reader.jobs.find(Query(search="job-1999")).found == 1
    assert reader.jobs.find(Query(search="job-1000")).found == 0
    assert reader.snapshot.tasks["a.task"].ok == 2000


async def test_while_redis_is_away_jobs_do_not_wait(own_valkey: Valkey) -> None:
    """What was recorded meanwhile is reported afterwards, and counted right."""
    recorder = recorder_on(own_valkey.url, timeout=0.3)
    recorder.take_over()
    recorder.record(event(1))
    wait_until(recorder.report, description="it is reported")
    own_valkey.freeze()
    began = time.monotonic()
    for _ in range(1000):
        recorder.record(event(2, "STARTED"))
    recorder.record(event(2))
    recorded = time.monotonic()
    assert not recorder.report()
    assert recorded - began < time.monotonic() - recorded  # a thousand, and one wait for Redis
    own_valkey.thaw()
    own_valkey.restart()
    recorder.record(event(3))
    wait_until(recorder.report, description="Redis takes the report")
    with own_valkey.client() as redis:
        assert events_sent(redis) == 3
        for seconds in (10, 300):
            found = [redis.hgetall(key) for key in redis.scan_iter(f"service:stats:{seconds}:*")]
            stored = [{k.encode(): v.encode() for k, v in fields.items()} for fields in found]
            assert by_task(together(map(read_bucket, stored)))["a.task"].ok == 3
        assert all(redis.ttl(key) > 0 for key in redis.scan_iter("service:*"))
    await recorder.aclose()


async def test_who_gives_up_waiting_for_the_last_report_leaves_it_alone(
    own_valkey: Valkey,
) -> None:
    """Redis is silent: the thread ends by itself afterwards, and in order."""
    recorder = recorder_on(own_valkey.url)
    own_valkey.freeze()
    recorder.record(event(1))
    thread = recorder._thread
    assert thread is not None
    closing = asyncio.create_task(recorder.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    own_valkey.thaw()
    await asyncio.to_thread(thread.join)
    assert recorder._finished.result() is None
    with own_valkey.client() as redis:
        assert events_sent(redis) == 1


async def test_workers_come_and_leave(recorder: Recorder, app: Quart) -> None:
    """One that leaves is not shown any more; what it held is still counted as held."""
    recorder.take_over()
    reader = dashboard_of(app).reader
    recorder.report("one@host", status())
    recorder.report("two@host", status(running=2, lease_age=1.5))
    now = await reader.refresh()
    assert [worker.name for worker in now.alive] == ["one@host", "two@host"]
    assert {queue.name: queue.deliveries for queue in now.queues} == {"celery": 6, "x": 0}
    recorder.report("one@host")
    reader.expire()
    assert [worker.name for worker in (await reader.refresh()).workers] == ["two@host"]


def test_a_worker_says_the_same_every_other_second_only(recorder: Recorder, valkey: Valkey) -> None:
    """Its leases grow older all the time, which is no news; how many jobs run is, and a job is."""
    with valkey.client() as redis:

        def stored(*, running: int = 1, lease_age: float) -> dict[str, Any]:
            recorder.record_worker("w@h", status(running=running, lease_age=lease_age))
            found: Any = redis.hget(KEYS.workers, "w@h")
            return dict(json.loads(found))

        first = time.monotonic()
        assert stored(lease_age=1)["lease_age"] == 1
        second = stored(lease_age=2)["lease_age"]
        assert second == 1 or time.monotonic() - first > 1.9
        assert stored(lease_age=3, running=2)["lease_age"] == 3
        recorder.record(event(1))
        assert stored(lease_age=4, running=2)["lease_age"] == 4
        assert events_sent(redis) == 1
        recorder.record_worker("w@h", None)
        assert not redis.hexists(KEYS.workers, "w@h")
        assert stored(lease_age=5, running=2)["lease_age"] == 5


async def test_a_job_whose_end_was_never_reported_is_looked_up(
    recorder: Recorder, app: Quart, valkey: Valkey
) -> None:
    """Its worker was killed in the second before it would have reported."""
    recorder.take_over()
    recorder.record(event(1, "STARTED", age=10))
    recorder.report()
    with valkey.client() as redis:
        redis.set(f"{RECORD}job-1", '{"status": "FAILURE", "result": null}', ex=60)
    reader = dashboard_of(app).reader
    await reader.refresh()
    (found,) = reader.jobs.find(Query(search="job-1")).jobs
    assert (found.state, found.worker) == ("FAILURE", "w@h")


async def test_without_redis_the_dashboard_says_so(own_valkey: Valkey) -> None:
    """And shows what it last knew."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url, "SERVICE_REDIS_TIMEOUT": 20})
    async with app.test_app():
        reader = dashboard_of(app).reader
        assert not (await reader.refresh()).problem
        own_valkey.kill()
        reader.expire()
        assert "Redis is not available" in (await reader.refresh()).problem
        own_valkey.start()
        reader.expire()
        assert not (await reader.refresh()).problem
