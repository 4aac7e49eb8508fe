"""A worker that is told to stop does so in time, whatever its jobs and its server do."""

import signal
import time
from pathlib import Path

import pytest

from service.parts import parts_of
from service.results.model import State
from tests.support import pool_tasks as pool
from tests.support import stop_tasks as stop
from tests.support.serving import serving_app
from tests.support.valkey import Valkey
from tests.system.worker.test_pool_shutdown import queued, worker_on

MODULES = "tests.support.sample_tasks,tests.support.pool_tasks,tests.support.stop_tasks"
LONG = 300.0  # seconds that a job takes which cannot be stopped
TIMEOUT = 30.0  # seconds, for a machine that does much else; the limits sum up to less
TERM, QUIT, INT = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT


async def test_a_signal_that_interrupts_the_log_does_not_hang_the_worker(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """Nothing waits in a signal handler for a thread that needs what the main thread holds."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SAMPLE_HOLDS_LOG": "1"}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES):
            job = await pool.sleep_long.enqueue()
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(INT)
            worker.wait_for_note("holds the log")
            worker.process.send_signal(INT)
            worker.process.wait_for_output("will terminate all")
            worker.open_gate("log")
            worker.process.wait(TIMEOUT)
            assert f"cleaned {job.id} of the sample" in worker.notes
            assert any(line.startswith("after_serving") for line in worker.notes)
            assert queued(own_valkey) == 1


@pytest.mark.parametrize(
    ("grace", "signals"),
    [("0.5", [TERM]), ("300", [TERM, TERM]), ("300", [QUIT]), ("300", [INT, INT])],
)
async def test_a_job_that_blocks_the_loop_does_not_hold_the_worker(
    own_valkey: Valkey, tmp_path: Path, grace: str, signals: list[signal.Signals]
) -> None:
    """It and the job beside it go back, though the loop can end neither."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_GRACE": grace}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES):
            beside = await pool.sleep_long.enqueue()
            worker.wait_for_note(f"started {beside.id}")
            job = await stop.block_loop.enqueue(LONG)
            worker.wait_for_note(f"started {job.id}")
            for number in signals:
                worker.process.send_signal(number)
                worker.process.wait_for_output("shutdown|Ctrl")
            worker.process.wait(TIMEOUT)
            assert queued(own_valkey) == 2


async def test_a_job_that_holds_the_interpreter_does_not_hold_the_worker(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """No thread of Python's runs then: not even one that would end the process."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_GRACE": "0.5", "SERVICE_LEASE": "2"}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES, **env):
            job = await stop.hold_interpreter.enqueue(int(LONG))
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(TERM)
            worker.process.wait_for_output("The worker stops")
            worker.open_gate("hold")
            assert worker.process.wait(TIMEOUT) == 1
            assert "hold_interpreter" in worker.process.output  # who it was
            worker.open_gate("free")
            with worker_on(own_valkey, tmp_path, **env):
                await job.result(timeout=TIMEOUT)


@pytest.mark.parametrize(("with_job", "is_waited_for"), [(True, False), (False, True)])
async def test_a_hung_server_does_not_hold_the_worker(
    own_valkey: Valkey, tmp_path: Path, with_job: bool, is_waited_for: bool
) -> None:
    """Also where the main thread waits for it when the signal comes."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_GRACE": "0.5"}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES):
            if with_job:
                job = await pool.sleep_long.enqueue()
                worker.wait_for_note(f"started {job.id}")
            own_valkey.freeze()
            try:
                if is_waited_for:
                    time.sleep(3)  # noqa: ASYNC251  a heartbeat is sent every 2 s, and shows in nothing
                began = time.monotonic()
                worker.process.send_signal(TERM)
                assert worker.process.wait(TIMEOUT) == 0
                assert time.monotonic() - began < 20
            finally:
                own_valkey.thaw()
            assert any(line.startswith("after_serving") for line in worker.notes)


async def test_a_body_in_a_thread_that_ends_after_the_grace_counts(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """It can't be stopped: if it went back at the end of the grace, it would end twice."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_GRACE": "0.1"}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES) as app:
            job = await stop.end_in_thread.enqueue("gate")
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(TERM)
            worker.process.wait_for_output("The worker stops")
            assert queued(own_valkey) == 0
            worker.open_gate("gate")
            assert worker.process.wait(TIMEOUT) == 0
            assert queued(own_valkey) == 0
            with own_valkey.client() as client:
                assert client.hlen("unacked") == 0
            assert (await parts_of(app).store.get(job.id)).state is State.SUCCESS


async def test_a_body_in_a_thread_that_does_not_end_goes_back_with_the_process(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    """Not before: another worker would run it at the same time."""
    env = {"SERVICE_TASK_MODULES": MODULES, "SERVICE_GRACE": "0.1"}
    with worker_on(own_valkey, tmp_path, **env) as worker:
        async with serving_app(worker, MODULES):
            job = await stop.end_in_thread.enqueue("never")
            worker.wait_for_note(f"started {job.id}")
            worker.process.send_signal(TERM)
            worker.process.wait_for_output("The worker stops")
            assert queued(own_valkey) == 0
            worker.process.wait_for_output("does not end: it goes on")
            assert worker.process.wait(TIMEOUT) == 0
            assert queued(own_valkey) == 1
