"""How a worker with the asyncio pool stops: nothing is lost, and nothing is left running."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service import create_app, get_celery
from service.parts import parts_of
from service.results.model import State
from tests.support import pool_tasks as pool
from tests.support.process import Process
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.support.wait import wait_until_async
from tests.support.workers import Worker, worker_process

MODULES = "tests.support.sample_tasks,tests.support.pool_tasks"
TIMEOUT = 45.0


@contextmanager
def worker_on(valkey: Valkey, folder: Path, *options: str, **env: str) -> Iterator[Worker]:
    """A worker beside others on one server."""
    process: Process = worker_process(
        "asyncio", valkey.url, folder, *options, **{"SERVICE_TASK_MODULES": MODULES, **env}
    )
    with process:
        process.wait_for_output(r"ready\.")
        yield Worker("asyncio", process, valkey.url, folder)


def queued(valkey: Valkey) -> int:
    with valkey.client() as client:
        return int(client.llen("celery"))


def end_while_frozen(worker: Worker, job_id: str, valkey: Valkey) -> None:
    """Let the body end while Redis is silent, which it is until the result has had to wait."""
    worker.wait_for_note(f"started {job_id}")
    valkey.freeze()
    worker.open_gate("gate")
    worker.wait_for_note(f"left {job_id}")
    worker.process.wait_for_output("Redis is away, 1 results have to wait")
    valkey.thaw()


async def test_what_runs_may_finish_and_nothing_more_starts(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """A second job, which the worker had prefetched or not, waits for the next worker."""
    with worker_on(own_valkey, tmp_path, "--concurrency", "1") as worker:
        async with serving_app(worker, MODULES):
            first = await pool.wait_at_gate.enqueue("first")
            worker.wait_for_note(f"started {first.id}")
            second = await pool.wait_at_gate.enqueue("second")
            worker.process.send_signal(signal.SIGTERM)
            worker.process.wait_for_output("Warm shutdown")
            worker.open_gate("first")
            assert worker.process.wait() == 0
            assert await first.result(timeout=TIMEOUT) == "first"
            assert f"started {second.id}" not in worker.notes
            assert any(line.startswith("after_serving") for line in worker.notes)
            assert queued(own_valkey) == 1


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_does_not_finish_goes_back_to_the_queue(
    own_valkey: Valkey, tmp_path: Path, hurried: bool
) -> None:
    """After the grace, or at a second signal: cleaned up, given back, run by the next worker."""
    grace = "300" if hurried else "0.3"
    with worker_on(own_valkey, tmp_path, SERVICE_GRACE=grace) as worker:
        async with serving_app(worker, MODULES) as app:
            job = await pool.sleep_long.enqueue()
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(signal.SIGTERM)
            worker.process.wait_for_output("Warm shutdown")
            if hurried:
                worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait() == 0
            assert f"cleaned {job.id} of the sample" in worker.notes
            assert any(line.startswith("after_serving") for line in worker.notes)
            assert queued(own_valkey) == 1
            assert not (await parts_of(app).store.get(job.id)).ready

            (tmp_path / "notes").unlink()
            with worker_on(own_valkey, tmp_path) as next_worker:
                next_worker.wait_for_note(f"started {job.id}")
                get_celery(app).control.revoke(job.id, terminate=True)
                assert (await parts_of(app).watcher.wait(job.id, TIMEOUT)).state is State.REVOKED


@pytest.mark.parametrize("task", [pool.ignore_cancellation, pool.hang_in_thread])
async def test_what_does_not_even_end_is_left_behind(
    own_valkey: Valkey, tmp_path: Path, task: Any
) -> None:
    """A body that ignores its cancellation and a thread that hangs do not hold the worker."""
    with worker_on(own_valkey, tmp_path, SERVICE_GRACE="0.1") as worker:
        async with serving_app(worker, MODULES):
            job = await task.enqueue(*(["never"] if task is pool.hang_in_thread else []))
            worker.wait_for_note(f"started {job.id}")
            assert worker.process.stop() == 0
            assert queued(own_valkey) == 1


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
async def test_a_cold_shutdown_cleans_up_too(
    own_valkey: Valkey, tmp_path: Path, number: signal.Signals
) -> None:
    """SIGQUIT, or Ctrl-C twice: jobs are cancelled, their messages are kept, the app shuts down."""
    with worker_on(own_valkey, tmp_path) as worker:
        async with serving_app(worker, MODULES):
            job = await pool.sleep_long.enqueue()
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(number)
            if number is signal.SIGINT:
                worker.process.wait_for_output("Ctrl\\+C again")
                worker.process.send_signal(number)
            worker.process.wait()
            assert f"cleaned {job.id} of the sample" in worker.notes
            assert any(line.startswith("after_serving") for line in worker.notes)
            assert queued(own_valkey) == 1


async def test_what_cannot_go_back_has_failed(own_valkey: Valkey, tmp_path: Path) -> None:
    """A job with `acks_late=False` was acknowledged when it began."""
    with worker_on(own_valkey, tmp_path, SERVICE_GRACE="0.1") as worker:
        async with serving_app(worker, MODULES) as app:
            job = await pool.sleep_long_acknowledged.enqueue()
            worker.wait_for_note(f"started {job.id}")
            assert worker.process.stop() == 0
            assert queued(own_valkey) == 0
            result = await parts_of(app).store.get(job.id)
            assert result.error is not None
            assert "The worker stopped" in result.error.message
            assert "0 jobs go back to the queue, 1 have failed" in worker.process.output


async def test_limits_end_with_the_body(own_valkey: Valkey, tmp_path: Path) -> None:
    """However long its result, or its last report, has to wait for Redis."""
    with worker_on(own_valkey, tmp_path) as worker:
        async with serving_app(worker, MODULES) as app:
            job = await pool.end_before_its_limits.enqueue("gate")
            end_while_frozen(worker, job.id, own_valkey)
            result = await parts_of(app).watcher.wait(job.id, TIMEOUT)
            assert (result.state, result.result) == (State.SUCCESS, 42)
            assert "time limit" not in worker.process.output


async def test_a_result_waits_for_redis_to_come_back(own_valkey: Valkey, tmp_path: Path) -> None:
    """It is good, so it never becomes a failure; and it is acknowledged only when it is stored."""
    with worker_on(own_valkey, tmp_path) as worker:
        async with serving_app(worker, MODULES) as app:
            job = await pool.wait_at_gate.enqueue("gate")
            end_while_frozen(worker, job.id, own_valkey)

            async def done() -> bool:
                return (await parts_of(app).store.get(job.id)).state is State.SUCCESS

            await wait_until_async(done, timeout=TIMEOUT, description="the result is stored")
            worker.process.wait_for_output("Redis is back")


async def test_a_worker_that_stops_while_redis_is_away_loses_nothing(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """The job's message is still there: it runs again on another worker."""
    app = create_app({"SERVICE_REDIS_URL": own_valkey.url, "SERVICE_TASK_MODULES": MODULES})
    with worker_on(own_valkey, tmp_path, SERVICE_GRACE="0.5") as worker:
        async with app.test_app(), app.app_context():
            job = await pool.wait_at_gate.enqueue("gate")
            worker.wait_for_note(f"started {job.id}")
            own_valkey.kill()
            worker.open_gate("gate")
            worker.process.wait_for_output("Redis is away")
            worker.process.send_signal(signal.SIGTERM)
            worker.process.wait()
    own_valkey.start()
    with own_valkey.client() as client:
        assert client.llen("celery") + client.hlen("unacked") == 1
