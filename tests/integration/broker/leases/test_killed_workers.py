"""A worker that dies loses nothing, and its jobs soon run elsewhere."""

import os
import random
import signal
from contextlib import ExitStack

import pytest

from tests.support.broker import MAINLY_ASYNCIO, POOLS, Bench, ready
from tests.support.process import Process
from tests.support.wait import PATIENCE, wait_until

both_pools = pytest.mark.parametrize("pool", POOLS)


@both_pools
def test_a_killed_workers_job_runs_again_within_one_and_a_half_leases(
    bench: Bench, pool: str
) -> None:
    """This is what a user waits for after a crash, on a calm machine."""
    with bench.worker("doomed", pool=pool, concurrency=1) as doomed:
        ready(doomed)
        job = bench.send("work", "crash", 1.0)
        bench.wait_for_note("start", "crash")
        with bench.worker("heir", pool=pool, concurrency=1) as heir:
            ready(heir)
            wait_until(lambda: bench.count("end", "crash"), description="the first run ends")
            bench.send("work", "crash2", 600)
            bench.wait_for_note("start", "crash2")
            # Whoever runs it dies; the other one, which has swept for a lease already, inherits.
            victim = doomed if "crash2" in _running(doomed, bench) else heir
            victim.kill()
            started = bench.times("start", "crash2")[0]
            bench.wait_for_note("start", "crash2", times=2)
            waited = bench.times("start", "crash2")[1] - started
            assert waited <= 1.5 * bench.lease + 2.0
    assert bench.state(job) == "SUCCESS"


def _running(worker: Process, bench: Bench) -> str:
    """The labels of the jobs whose last start was noted by a child of this worker."""
    children = {
        note[2]: note[1]
        for note in bench.notes()
        if note[0] == "start" and _is_child(note[2], worker)
    }
    return " ".join(children.values())


def _is_child(pid: str, worker: Process) -> bool:
    try:
        return os.getpgid(int(pid)) == worker.pid
    except ProcessLookupError:
        return False


def _kill_under_load(bench: Bench, pool: str, kills: int) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    jobs: list[str] = []
    for number in range(kills):
        with bench.worker(f"doomed{number}", pool=pool) as worker:
            ready(worker)
            jobs += [bench.send("work", f"{number}.{i}", 0.02) for i in range(8)]
            at = chance.randrange(1, 8)
            bench.wait_for_note("start", f"{number}.{at}")
            if chance.random() < 0.5:
                worker.send_signal(signal.SIGSTOP)
                jobs += [bench.send("work", f"{number}.frozen", 0.02)]
            worker.kill()
    with bench.worker("survivor", pool=pool) as survivor:
        ready(survivor)
        wait_until(
            lambda: all(bench.state(job) == "SUCCESS" for job in jobs),
            timeout=PATIENCE + kills,
            description="every job has ended",
        )
        bench.wait_until_empty()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_killing_workers_under_load_loses_nothing(bench: Bench, pool: str) -> None:
    """Stock Celery lost two jobs in six kills."""
    _kill_under_load(bench, pool, kills=5)


@both_pools
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killing_workers_a_hundred_times_loses_nothing(bench: Bench, pool: str) -> None:
    """The long form."""
    _kill_under_load(bench, pool, kills=100)


@both_pools
@pytest.mark.parametrize(
    "task", ["leave", pytest.param("die", marks=pytest.mark.chaos)], ids=["os._exit", "SIGKILL"]
)
def test_a_job_that_kills_its_process_becomes_a_dead_letter(
    bench: Bench, pool: str, task: str
) -> None:
    """It would otherwise end one process after the other, for ever."""
    bench.options["max_deliveries"] = 3
    with _Keeper(bench, pool) as keeper:
        poison = bench.send(task, "poison")
        wait_until(
            lambda: keeper.keep() and bench.state(poison) == "FAILURE",
            timeout=40,
            description="the poison is given up on",
        )
        assert bench.count("start", "poison") == 3
        assert "3 times" in str(bench.result(poison)["result"])
        wait_until(lambda: bench.redis.llen("celery.dead") == 1, description="it is a dead letter")
        after = bench.send("work", "after")
        wait_until(lambda: keeper.keep() and bench.state(after) == "SUCCESS", description="go on")
        assert keeper.born == (4 if pool == "asyncio" else 1)


def test_a_job_that_kills_its_process_takes_no_others_along(bench: Bench) -> None:
    """Under the asyncio pool many jobs share a process, and all are put back when it dies."""
    bench.options["max_deliveries"] = 4
    with _Keeper(bench, "asyncio", concurrency=20) as keeper:
        poison = bench.send("die", "poison", 0.2)
        others = [bench.send("work", f"innocent{i}", 1.0) for i in range(8)]
        wait_until(
            lambda: keeper.keep() and bench.state(poison) == "FAILURE",
            timeout=50,
            description="the poison is given up on",
        )
        for other in others:
            wait_until(
                lambda o=other: keeper.keep() and bench.state(o) in {"SUCCESS", "FAILURE"},  # type: ignore[misc]  # lambda default
                timeout=30,
                description="the others have ended",
            )
        assert {bench.state(other) for other in others} == {"SUCCESS"}


class _Keeper:
    """Starts the worker again whenever it ends, as a supervisor does."""

    def __init__(self, bench: Bench, pool: str, concurrency: int = 2) -> None:
        self._bench = bench
        self._concurrency = concurrency
        self._pool = pool
        self._stack = ExitStack()
        self.born = 0
        self._bear()

    def keep(self) -> bool:
        """See to it that there is a worker; always true."""
        if self._worker.returncode is not None:
            self._bear()
        return True

    def _bear(self) -> None:
        self.born += 1
        worker = self._bench.worker(f"w{self.born}", pool=self._pool, concurrency=self._concurrency)
        self._worker = self._stack.enter_context(worker)

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
