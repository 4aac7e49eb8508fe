"""A worker that was away too long takes nothing that is not its own any more."""

import os
import signal

import pytest

from tests.support.broker import POOLS, Bench, ready
from tests.support.process import Process
from tests.support.wait import wait_until

pytestmark = pytest.mark.parametrize("pool", POOLS)


def test_a_thawed_workers_late_ack_takes_nothing(bench: Bench, pool: str) -> None:
    """Its job went to another one, which holds the message now."""
    with bench.worker("frozen", pool=pool, concurrency=1) as frozen:
        ready(frozen)
        job = bench.send("work", "job", 4 * bench.lease)
        bench.wait_for_note("start", "job")
        with bench.worker("other", pool=pool, concurrency=1) as other:
            ready(other)
            _freeze_group(frozen, signal.SIGSTOP)
            bench.wait_for_note("start", "job", times=2, timeout=5 * bench.lease)
            held = bench.redis.hkeys("unacked")
            _freeze_group(frozen, signal.SIGCONT)
            frozen.wait_for_output("LOST|was lost before its job ended")
            bench.wait_for_note("end", "job", timeout=6 * bench.lease)
            wait_until(
                lambda: bench.count("end", "job") == 2 or bench.redis.hkeys("unacked") == held,
                description="the other one's hold is as it was",
            )
            bench.wait_for(job, timeout=6 * bench.lease)
            bench.wait_until_empty(timeout=6 * bench.lease)
            assert bench.count("start", "job") == 2
            assert frozen.returncode is None
            assert other.returncode is None


def _freeze_group(worker: Process, number: signal.Signals) -> None:
    os.killpg(worker.pid, number)
