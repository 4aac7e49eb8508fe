"""What the asyncio pool adds to a worker: many jobs on one loop, and an end for each of them."""

import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from quart import Quart
from redis import Redis

from service import enqueue, get_celery
from service.errors import JobFailedError
from service.jobs.job import Job
from service.parts import parts_of
from service.results.model import State
from tests.support import pool_tasks as pool
from tests.support import sample_tasks as sample
from tests.support.process import is_alive
from tests.support.serving import inspect, serving_app
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async
from tests.support.workers import MODULES, Worker, running_worker

TIMEOUT = 45.0
MANY = ("--concurrency", "600")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the shared worker's pool to the tests that use it; others start their own."""
    if "shared_worker" in metafunc.fixturenames:
        metafunc.parametrize("shared_worker", ["asyncio"], indirect=True)


@pytest.fixture
def worker(shared_worker: Worker) -> Worker:
    return shared_worker


@pytest.fixture
async def app(worker: Worker) -> AsyncIterator[Quart]:
    """An app like the web side's, in whose context a test enqueues."""
    async with serving_app(worker, MODULES) as app:
        yield app


@asynccontextmanager
async def one_at_a_time(folder: Path, *options: str) -> AsyncIterator[tuple[Worker, Quart]]:
    """A worker of its own that has one place, and an app to enqueue with."""
    one = ("--concurrency", "1", *options)
    with running_worker("asyncio", folder, *one, SERVICE_TASK_MODULES=MODULES) as worker:
        async with serving_app(worker, MODULES) as app:
            yield worker, app


async def ended(app: Quart, job: Job[Any]) -> Any:
    return await parts_of(app).watcher.wait(job.id, TIMEOUT)


def lines_about(worker: Worker, job: Job[Any]) -> list[str]:
    return [line for line in worker.process.output.splitlines() if job.id in line]


# Which pool, and how many at once.


async def test_it_is_the_default_with_a_hundred_jobs_at_once(tmp_path: Path) -> None:
    """And prefetches as many as it runs; Celery's own default is one process per processor."""
    with running_worker("asyncio", tmp_path, "--concurrency", "0") as worker:
        async with serving_app(worker, MODULES) as app:
            stats = await inspect(app, "stats")
    assert stats["pool"]["implementation"] == "service.worker.pool.pool:AsyncioPool"
    assert stats["pool"]["max-concurrency"] == stats["prefetch_count"] == 100
    assert stats["pool"]["loop"] == "uvloop"  # which the tests' environment has


async def test_prefork_is_to_be_had_with_its_own_default(tmp_path: Path) -> None:
    """Celery takes an explicit `-P prefork` for its own default, and the configured pool for it."""
    with running_worker("prefork", tmp_path, "--concurrency", "0") as worker:
        async with serving_app(worker, MODULES) as app:
            stats = await inspect(app, "stats")
    assert "prefork" in stats["pool"]["implementation"]
    assert stats["pool"]["max-concurrency"] == os.cpu_count()


async def test_no_more_jobs_run_than_asked_for(tmp_path: Path) -> None:
    """More wait; growing by remote control lets one in, shrinking keeps the next one out."""
    with running_worker(
        "asyncio", tmp_path, "--concurrency", "2", SERVICE_TASK_MODULES=MODULES
    ) as worker:
        async with serving_app(worker, MODULES) as app:
            jobs = [await pool.wait_at_gate.enqueue(f"gate-{n}") for n in range(4)]

            def started() -> set[str]:
                return {line.split()[1] for line in worker.notes if line.startswith("started")}

            wait_until(lambda: len(started()) == 2, description="two jobs run")
            active = await inspect(app, "active")
            assert {job["id"] for job in active} == started()
            control = get_celery(app).control
            control.pool_grow(1)
            wait_until(lambda: len(started()) == 3, description="a third runs")
            assert len(await inspect(app, "active")) == 3
            assert all(job["id"] not in started() for job in await inspect(app, "reserved"))
            control.pool_shrink(2)

            async def has_shrunk() -> bool:
                stats = await inspect(app, "stats")
                return bool(stats["pool"]["max-concurrency"] == 1)

            await wait_until_async(has_shrunk, description="the pool has shrunk")
            worker.open_gate("gate-0")
            assert await jobs[0].result(timeout=TIMEOUT) == "gate-0"
            assert len(started()) == 3
            for n in range(4):
                worker.open_gate(f"gate-{n}")
            for n, job in enumerate(jobs):
                assert await job.result(timeout=TIMEOUT) == f"gate-{n}"


# Bodies.


async def test_sync_bodies_do_not_stall_coroutines(app: Quart, worker: Worker) -> None:
    """They run in threads: coroutines finish while each of them is held up."""
    blocked = [await pool.hang_in_thread.enqueue("blocked") for _ in range(8)]
    for job in blocked:
        worker.wait_for_note(f"started {job.id}")
    napping = [await pool.nap.enqueue(0.1) for _ in range(200)]
    for nap in napping:
        assert await nap.result(timeout=TIMEOUT) == 0.1
    worker.open_gate("blocked")
    for job in blocked:
        await job.result(timeout=TIMEOUT)


@pytest.mark.slow
async def test_five_hundred_interleaved_jobs_each_see_themselves(
    app: Quart, worker: Worker
) -> None:
    """In the body, in child tasks, in `asyncio.to_thread`, in sync bodies and in the hooks."""
    jobs, sync, hooked = [], [], []
    for n in range(500):
        jobs.append(await sample.look_from_children.enqueue(0.5))
        if n % 5 == 0:
            sync.append(await sample.look.enqueue())
            hooked.append(await sample.hooked.enqueue("success"))
    for job in jobs:
        assert set(await job.result(timeout=TIMEOUT)) == {job.id}
    for other in sync:
        seen = await other.result(timeout=TIMEOUT)
        assert {seen["request"], seen["current_task"], seen["current_job"]} == {other.id}
    for last in hooked:
        for hook in ("before_start", "on_success", "after_return"):
            worker.wait_for_note(f"{hook} {last.id} of the sample")


async def test_a_job_finds_nothing_of_the_one_that_made_room_for_it(tmp_path: Path) -> None:
    """Neither its contextvars, nor, in the hooks after a hard limit, its request."""
    async with one_at_a_time(tmp_path, "--prefetch-multiplier", "3") as (worker, app):
        first = await pool.leave_colour.enqueue("gate")
        second, third = await pool.find_colour.enqueue(), await pool.over_hard_limit.enqueue()
        worker.process.wait_for_output(rf"over_hard_limit\[{third.id}\] received")
        worker.open_gate("gate")
        await first.result(timeout=TIMEOUT)
        assert await second.result(timeout=TIMEOUT) == "none"
        assert (await ended(app, third)).state is State.FAILURE
        worker.wait_for_note(f"on_failure {third.id} TimeLimitExceeded {third.id} of the sample")


async def test_ignore_reject_and_replace_work(app: Quart, worker: Worker, tmp_path: Path) -> None:
    """As Celery has them; but what was ignored says that it has ended."""
    ignored = await pool.ignored.enqueue()
    again = await pool.rejected_once.enqueue(str(tmp_path / "marker"))
    replaced: Job[Any] = await pool.replaced.enqueue(5)
    assert await again.result(timeout=TIMEOUT) == "the second time"
    assert await replaced.result(timeout=TIMEOUT) == 5
    assert (await parts_of(app).watcher.wait(ignored.id, TIMEOUT)).state is State.REVOKED


async def test_a_state_set_by_hand_is_stored(app: Quart) -> None:
    """`self.update_state` is synchronous, and is called on the loop."""
    job = await pool.report_late.enqueue()
    assert await job.result(timeout=TIMEOUT) == job.id


# Limits.


async def test_the_hard_limit_ends_a_coroutine(app: Quart, worker: Worker) -> None:
    """It is cleaned up, and the hooks see the job."""
    job = await pool.over_hard_limit.enqueue()
    result = await ended(app, job)
    assert result.state is State.FAILURE
    assert result.error.type == "TimeLimitExceeded"
    worker.wait_for_note(f"cleaned {job.id}")
    worker.wait_for_note(f"on_failure {job.id} TimeLimitExceeded {job.id} of the sample")


async def test_a_task_that_is_applied_in_a_body_does_not_end_its_limits(app: Quart) -> None:
    """It runs in the same bridge."""
    job = await pool.over_soft_limit_after_another_task.enqueue()
    assert (await ended(app, job)).error.type == "SoftTimeLimitExceeded"


async def test_a_hook_that_is_too_slow_changes_nothing_of_the_job(app: Quart) -> None:
    """It is ended; what it was called for goes on."""
    job = await pool.retry_with_a_slow_hook.enqueue()
    assert await job.result(timeout=TIMEOUT) == 42


@pytest.mark.parametrize(
    "task", [pool.succeed_with_a_stubborn_hook, pool.succeed_with_a_hook_that_hangs]
)
async def test_a_hook_that_does_not_end_keeps_neither_place_nor_message(
    tmp_path: Path, task: Any
) -> None:
    """What the body has done is stored; it is not done once more."""
    async with one_at_a_time(tmp_path) as (worker, _):
        assert await (await task.enqueue()).result(timeout=TIMEOUT) == 42
        assert await (await pool.nap.enqueue(0.0)).result(timeout=TIMEOUT) == 0.0
        with Redis.from_url(worker.redis_url) as redis:
            wait_until(lambda: not redis.exists("unacked"), description="nothing is held")
            assert worker.process.stop() == 0
            assert not redis.exists("celery")


@pytest.mark.parametrize(
    "task", [pool.over_hard_limit_with_a_bad_hook, pool.over_hard_limit_with_a_hook_without_redis]
)
async def test_a_hook_that_fails_at_the_hard_limit_does_no_harm(tmp_path: Path, task: Any) -> None:
    """Its job has failed, its message is acknowledged, its place is free."""
    async with one_at_a_time(tmp_path) as (worker, app):
        job = await task.enqueue()
        assert (await ended(app, job)).error.type == "TimeLimitExceeded"
        assert await (await pool.nap.enqueue(0.0)).result(timeout=TIMEOUT) == 0.0
        with Redis.from_url(worker.redis_url) as redis:
            wait_until(lambda: not redis.exists("unacked"), description="nothing is held")
        worker.process.wait_for_output(f"A hook of job {job.id} failed")


@pytest.mark.parametrize("task", [pool.ignore_hard_limit, pool.ignore_cancellation])
async def test_what_does_not_end_keeps_no_place(tmp_path: Path, task: Any) -> None:
    """A body can ignore that it is cancelled; the log says that it goes on."""
    async with one_at_a_time(tmp_path) as (worker, app):
        job = await task.enqueue()
        if task is pool.ignore_cancellation:
            worker.wait_for_note(f"started {job.id}")
            get_celery(app).control.revoke(job.id, terminate=True)
        assert (await ended(app, job)).state in {State.FAILURE, State.REVOKED}
        assert await (await pool.nap.enqueue(0.0)).result(timeout=TIMEOUT) == 0.0
        worker.process.wait_for_output(f"{job.id}] does not end although it was cancelled")


@pytest.mark.slow
async def test_the_hard_limit_gives_up_a_thread(app: Quart, worker: Worker) -> None:
    """No one can kill it: the job fails in time, and the log says what is left."""
    job = await pool.over_hard_limit_in_thread.enqueue("thread")
    result = await ended(app, job)
    assert result.error.type == "TimeLimitExceeded"
    worker.process.wait_for_output("1 of 32 threads for sync bodies are lost.*-P prefork")
    assert (await inspect(app, "stats"))["pool"]["sync-threads"] == {"size": 32, "lost": 1}
    worker.open_gate("thread")

    async def found_again() -> bool:
        stats = await inspect(app, "stats")
        return bool(stats["pool"]["sync-threads"]["lost"] == 0)

    await wait_until_async(found_again, description="the thread is found again")


# Cancelling.


async def test_a_revoked_job_is_cancelled_and_no_other(app: Quart, worker: Worker) -> None:
    """Its `finally` runs, and the log has a line about that and one about its end, no traceback."""
    job, other = await pool.sleep_long.enqueue(), await pool.sleep_long.enqueue()
    for one in (job, other):
        worker.wait_for_note(f"started {one.id}")
    said = len(worker.process.output)
    get_celery(app).control.revoke(job.id, terminate=True)
    assert (await ended(app, job)).state is State.REVOKED
    worker.wait_for_note(f"cleaned {job.id} of the sample")
    assert f"cleaned {other.id} of the sample" not in worker.notes
    worker.process.wait_for_output(rf"{job.id}\] was terminated")
    lines = [line for line in lines_about(worker, job) if "received" not in line]
    assert ["Terminating" in line for line in lines] == [True, False]
    assert "Traceback" not in worker.process.output[said:]
    get_celery(app).control.revoke(other.id, terminate=True)
    assert (await ended(app, other)).state is State.REVOKED


async def test_a_revoked_job_is_cancelled_within_half_a_second(app: Quart, worker: Worker) -> None:
    """From the call to the body's `finally`, by the body's own account.

    By the best of a few, as the machine may do much else. The end of the job may be seen before
    the body's account of it: Celery announces it as soon as the loop is told.
    """
    took: list[float] = []
    while not took or (took[-1] > 0.5 and len(took) < 5):
        job = await pool.time_cancellation.enqueue()
        worker.wait_for_note(f"started {job.id}")
        before = time.monotonic()
        get_celery(app).control.revoke(job.id, terminate=True)
        assert (await ended(app, job)).state is State.REVOKED
        took.append(cancelled_at(worker, job.id) - before)
    assert min(took) < 0.5, took


def cancelled_at(worker: Worker, job_id: str) -> float:
    """When the body was cancelled, by what it noted."""

    def noted() -> list[str]:
        return [line for line in worker.notes if line.startswith(f"cancelled {job_id}")]

    (line,) = wait_until(noted, description=f"{job_id} was cancelled")
    return float(line.split()[-1])


@pytest.mark.parametrize("multiplier", [1, 4])
async def test_a_job_revoked_while_it_waits_never_starts(tmp_path: Path, multiplier: int) -> None:
    """Nor one that expires: in the queue, or in the pool if its message was prefetched already."""
    async with one_at_a_time(tmp_path, "--prefetch-multiplier", str(multiplier)) as (worker, app):
        first = await pool.wait_at_gate.enqueue("gate")
        worker.wait_for_note(f"started {first.id}")
        second = await pool.wait_at_gate.enqueue("gate")
        third = await pool.wait_at_gate.options(expires=1).enqueue("gate")
        with Redis.from_url(worker.redis_url) as redis:
            held = min(3, multiplier)
            wait_until(lambda: redis.hlen("unacked") == held, description="they are held")
        expired_at = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > expired_at, description="the third has expired")
        get_celery(app).control.revoke(second.id)
        worker.process.wait_for_output(f"flagged as revoked: {second.id}")
        worker.open_gate("gate")
        assert (await ended(app, second)).state is State.REVOKED
        assert await first.result(timeout=TIMEOUT) == "gate"
        assert (await ended(app, third)).state is State.REVOKED
        assert [note for note in worker.notes if "started" in note] == [f"started {first.id}"]


# A blocked loop.


@pytest.mark.slow
@pytest.mark.parametrize("task", [pool.block_loop, pool.child_blocks_loop])
async def test_a_task_that_blocks_the_loop_is_named(
    app: Quart, worker: Worker, task: Callable[..., Any]
) -> None:
    """With its job, and the line that it is on."""
    job = await task.enqueue(1.5)  # type: ignore[attr-defined]  # it is a handle
    await job.result(timeout=TIMEOUT)
    line = worker.process.wait_for_output(rf"not turned for .*{job.id}.*$")[0]
    assert re.search(r"pool_tasks\.py:\d+ in \w+: time\.sleep\(seconds\)", line)


# Sending, and Redis.


@pytest.mark.parametrize(
    "task", [pool.send_while_redis_is_frozen, pool.child_sends_while_redis_is_frozen]
)
async def test_delay_does_not_block_the_loop(tmp_path: Path, task: Any) -> None:
    """In a body and in its child tasks: while Redis is frozen the call waits, the loop turns."""
    valkey_folder = tmp_path / "own"
    valkey_folder.mkdir()
    with (
        Valkey(valkey_folder) as valkey,
        running_worker(
            "asyncio",
            tmp_path,
            *MANY,
            SERVICE_TASK_MODULES=MODULES,
            SERVICE_REDIS_URL=valkey.url,
        ) as started,
    ):
        worker = Worker("asyncio", started.process, valkey.url, tmp_path)
        async with serving_app(worker, MODULES) as app:
            job = await task.enqueue("gate")
            worker.wait_for_note(f"started {job.id}")
            valkey.freeze()
            worker.open_gate("gate")
            frozen = time.monotonic()
            wait_until(lambda: time.monotonic() - frozen > 1.0, description="a second")
            assert f"sent {job.id}" not in worker.notes
            valkey.thaw()
            assert await job.result(timeout=TIMEOUT) < 0.5  # of the time that it took
            del app


# Results.


async def test_a_state_set_in_a_thread_stays_on_a_busy_worker(app: Quart, worker: Worker) -> None:
    """Where the record that says STARTED is written late, but not later than that."""
    naps = [await pool.nap.enqueue(0.0) for _ in range(100)]
    jobs = [await pool.set_state_and_wait.enqueue("set") for _ in range(10)]
    naps += [await pool.nap.enqueue(0.0) for _ in range(200)]
    for job in jobs:
        worker.wait_for_note(f"set {job.id}")
    for nap in naps:
        await nap.result(timeout=TIMEOUT)
    states = {(await parts_of(app).store.get(job.id)).state for job in jobs}
    worker.open_gate("set")
    assert states == {State.PROGRESS}


@pytest.mark.parametrize("task", [pool.give_not_a_number, pool.give_not_a_number_in_thread])
async def test_a_result_that_is_not_json_is_a_failure(app: Quart, task: Any) -> None:
    """A browser's JSON.parse knows no NaN: the page would break instead."""
    with pytest.raises(JobFailedError, match="not strict JSON") as caught:
        await (await task.enqueue()).result(timeout=TIMEOUT)
    assert caught.value.type == "UnstorableResultError"


async def test_a_result_over_the_limit_names_the_limit(app: Quart) -> None:
    """So that whoever meets it knows what to change."""
    with pytest.raises(JobFailedError, match="SERVICE_MAX_RESULT allows 1048576"):
        await (await pool.give_much.enqueue(1_100_000)).result(timeout=TIMEOUT)


async def test_a_report_that_is_not_json_fails_no_job(app: Quart, worker: Worker) -> None:
    """It is not the result."""
    job = await pool.report_not_a_number.enqueue()
    assert await job.result(timeout=TIMEOUT) == 1
    worker.process.wait_for_output("A progress report was not stored: .*not strict JSON")


async def test_an_error_that_is_not_json_is_told_all_the_same(app: Quart) -> None:
    """By its type, and in words."""
    with pytest.raises(JobFailedError, match="bad, nan") as caught:
        await (await pool.fail_with_not_a_number.enqueue()).result(timeout=TIMEOUT)
    assert caught.value.type == "ValueError"


async def test_an_argument_that_is_not_json_keeps_no_job_from_ending(app: Quart) -> None:
    """It is not shown, though the task shows its arguments."""
    job = await pool.take_not_a_number.enqueue()
    assert await job.result(timeout=TIMEOUT) is True


async def test_no_job_is_sent_with_what_cannot_be_stored(app: Quart, worker: Worker) -> None:
    """A chain ends where a step fails."""
    job: Any = await enqueue(chain(pool.give_not_a_number.s(), pool.note_value.s()))
    assert (await ended(app, job)).state is State.FAILURE
    assert await (await pool.nap.enqueue(0.0)).result(timeout=TIMEOUT) == 0.0
    assert "got nan" not in worker.notes


async def test_a_failure_over_the_limit_is_cut(app: Quart) -> None:
    """It says less of why it failed, but that it failed."""
    with pytest.raises(JobFailedError) as caught:
        await (await pool.fail_with_much.enqueue(1_100_000)).result(timeout=TIMEOUT)
    assert caught.value.type == "ValueError"
    assert "characters cut" in caught.value.message


def test_a_worker_leaves_nothing_running(tmp_path: Path) -> None:
    """Its process ends by itself."""
    with running_worker("asyncio", tmp_path) as worker:
        pid = worker.process.pid
        assert worker.process.stop(signal.SIGTERM) == 0
        assert not is_alive(pid)
