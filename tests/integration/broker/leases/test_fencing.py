"""A worker that was away too long takes nothing that is not its own any more."""

import os
import signal

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.process import Process
from tests.support.wait import wait_until

pytestmark = pytest.mark.parametrize("pool", MAINLY_ASYNCIO)


def test_a_thawed_workers_late_ack_takes_nothing(bench: Bench, pool: str) -> None:
    """Its job went to another one, which holds the message now."""
    with (
        bench.worker("one", pool=pool, concurrency=1) as one,
        bench.worker("two", pool=pool, concurrency=1) as two,
    ):
        ready(one, two)
        job = bench.send("work", "job", 4 * bench.lease)
        bench.wait_for_note("start", "job")
        frozen, other = (one, two) if _runs(one, bench) else (two, one)
        _freeze_group(frozen, signal.SIGSTOP)
        bench.wait_for_note("start", "job", times=2)
        held = bench.redis.hkeys("unacked")
        _freeze_group(frozen, signal.SIGCONT)
        frozen.wait_for_output("was lost before its job ended")  # said when it has told of the end
        assert bench.count("end", "job") == 1
        assert bench.redis.hkeys("unacked") == held
        bench.wait_for(job)
        bench.wait_until_empty(timeout=6 * bench.lease)
        assert bench.count("start", "job") == 2
        assert frozen.returncode is None
        assert other.returncode is None


def _runs(worker: Process, bench: Bench) -> bool:
    """Whether the job that was noted first runs in this worker or a child of it."""
    return os.getpgid(int(bench.notes()[0][2])) == worker.pid


def _freeze_group(worker: Process, number: signal.Signals) -> None:
    os.killpg(worker.pid, number)


def test_a_waiting_job_that_went_to_another_worker_is_not_begun_here(
    bench: Bench, pool: str
) -> None:
    """It waited here; its worker was frozen for over a lease, and woke before it was due."""
    with bench.worker("one", pool=pool, concurrency=1) as one:
        ready(one)
        job = bench.send_to_hold("work", "later", 2 * bench.lease, seconds=6 * bench.lease)
        wait_until(lambda: bench.redis.hlen("unacked") == 1, description="it is held")
        (held,) = bench.redis.hkeys("unacked")
        with bench.worker("two", pool=pool, concurrency=1) as two:
            ready(two)
            _freeze_group(one, signal.SIGSTOP)
            wait_until(
                lambda: bench.redis.hkeys("unacked") not in ([], [held]),
                description="the other one holds it",
            )
            _freeze_group(one, signal.SIGCONT)
            one.wait_for_output(f"Job {job} is not begun here")
            bench.wait_for(job)
            assert bench.count("start", "later") == 1
            bench.wait_until_empty()


def test_nothing_is_begun_on_a_lease_that_was_not_renewed_in_time(bench: Bench, pool: str) -> None:
    """A thawed worker's timers fire before it can learn that others run its jobs by now."""
    labels = [f"j{number}" for number in range(6)]
    with bench.worker("one", pool=pool, concurrency=6) as one:
        ready(one)
        jobs = [
            bench.send_to_hold("work", label, 2 * bench.lease, seconds=1.5 * bench.lease)
            for label in labels
        ]
        wait_until(lambda: bench.redis.hlen("unacked") == 6, description="all are held")
        _freeze_group(one, signal.SIGSTOP)
        with bench.worker("two", pool=pool, concurrency=6) as two:
            ready(two)
            for label in labels:
                bench.wait_for_note("start", label)
            _freeze_group(one, signal.SIGCONT)
            for job in jobs:
                bench.wait_for(job)
        bench.wait_for(bench.send("work", "last"))
        bench.wait_until_empty()
        assert {label: bench.count("start", label) for label in labels} == dict.fromkeys(labels, 1)


def test_what_waits_for_a_slot_is_not_begun_on_a_lost_lease(bench: Bench, pool: str) -> None:
    """Celery has asked before it gave the job to the pool, which was full."""
    bench.extra["SERVICE_CELERY__WORKER_PREFETCH_MULTIPLIER"] = "4"
    with bench.worker("one", pool=pool, concurrency=1) as one:
        ready(one)
        first = bench.send("work", "first", bench.lease)
        bench.wait_for_note("start", "first")
        second = bench.send("work", "second", 3 * bench.lease)
        wait_until(lambda: bench.redis.hlen("unacked") == 2, description="both are held")
        _freeze_group(one, signal.SIGSTOP)
        with bench.worker("two", pool=pool, concurrency=2) as two:
            ready(two)
            bench.wait_for_note("start", "second")
            _freeze_group(one, signal.SIGCONT)
            for job in (first, second):
                bench.wait_for(job)
        bench.wait_until_empty()
        assert bench.count("start", "second") == 1
