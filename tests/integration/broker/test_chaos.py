"""Everything at once, at random: what was submitted has ended, once, and nobody died of it."""

import os
import random
import signal
import time
from contextlib import ExitStack
from itertools import pairwise

import pytest

from tests.support.broker import POOLS, Bench, ready
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


class Chaos:
    """Three workers, a broker, and bad luck."""

    def __init__(
        self, stack: ExitStack, bench: Bench, valkey: Valkey, pool: str, seed: int
    ) -> None:
        self.stack = stack
        self.bench = bench
        self.valkey = valkey
        self.pool = pool
        self.chance = random.Random(seed)
        self.jobs: dict[str, str] = {}
        self.workers: list[Process] = []
        self.killed: list[float] = []
        self.done: list[str] = []
        self._born = 0
        for _ in range(3):
            self.bear()
        ready(*self.workers)

    def bear(self) -> None:
        """Start another worker."""
        self._born += 1
        worker = self.bench.worker(f"w{self._born}", pool=self.pool)
        self.workers.append(self.stack.enter_context(worker))

    def submit(self) -> None:
        """Enqueue a job; one that was refused does not count."""
        label = f"j{len(self.jobs)}"
        self.jobs[label] = self.bench.send("work", label, self.chance.choice([0, 0.3, 1.0, 3.0]))

    def strike(self) -> None:
        """Let something go wrong."""
        faults = [self._kill, self._freeze_and_kill, self._pause, self._cut, self._restart]
        fault = self.chance.choice(faults)
        self.done.append(fault.__name__)
        fault()

    def _pick(self) -> Process:
        return self.workers[self.chance.randrange(len(self.workers))]

    def _kill(self) -> None:
        worker = self._pick()
        self.workers.remove(worker)
        worker.kill()
        self.killed.append(time.time())
        self.bear()

    def _freeze_and_kill(self) -> None:
        worker = self._pick()
        os.killpg(worker.pid, signal.SIGSTOP)
        self.submit()
        self._let_pass(0.3)
        self.workers.remove(worker)
        worker.kill()
        self.killed.append(time.time())
        self.bear()

    def _pause(self) -> None:
        worker = self._pick()
        os.killpg(worker.pid, signal.SIGSTOP)
        self._let_pass(0.4 * self.bench.lease)  # less than a lease: nothing may be lost by it
        os.killpg(worker.pid, signal.SIGCONT)

    def _cut(self) -> None:
        mine = self.bench.redis.client_id()
        clients = [c["id"] for c in self.bench.redis.client_list() if int(c["id"]) != mine]
        for client in self.chance.sample(clients, min(3, len(clients))):
            self.bench.redis.client_kill_filter(_id=client)

    def _restart(self) -> None:
        self.valkey.kill()
        self._let_pass(self.chance.choice([0.0, 0.5, 1.5 * self.bench.lease]))
        self.valkey.start()

    def _let_pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= end, timeout=seconds + 1, description="time passes")


def _run(bench: Bench, valkey: Valkey, pool: str, seconds: float, seed: int) -> None:
    print(f"seed {seed}")
    with ExitStack() as stack:
        chaos = Chaos(stack, bench, valkey, pool, seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(chaos.chance.randrange(4, 12)):
                chaos.submit()
            chaos.strike()
            pause = time.monotonic() + chaos.chance.random() * bench.lease
            wait_until(lambda p=pause: time.monotonic() > p, description="a breath")  # type: ignore[misc]  # lambda default
        wait_until(
            lambda: all(bench.state(job) == "SUCCESS" for job in chaos.jobs.values()),
            timeout=60,
            description="every job has ended well",
        )
        bench.wait_until_empty(timeout=10 * bench.lease)
        overlaps = _overlaps(bench)
        never = [label for label in chaos.jobs if not bench.count("end", label)]
        _report(bench, chaos)
        assert never == []
        assert overlaps == []
        assert [worker.returncode for worker in chaos.workers] == [None] * 3


def _overlaps(bench: Bench) -> list[str]:
    """Jobs of which two runs that ended were under way at one time."""
    runs: dict[str, list[tuple[float, float]]] = {}
    begun: dict[str, float] = {}
    for what, label, _, at, run in bench.notes():
        if what == "start":
            begun[run] = float(at)
        elif run in begun:
            runs.setdefault(label, []).append((begun.pop(run), float(at)))
    return [
        label
        for label, spans in runs.items()
        for (_, first_end), (second_start, _) in pairwise(sorted(spans))
        if second_start < first_end
    ]


def _report(bench: Bench, chaos: Chaos) -> None:
    """Say how long the jobs of killed workers had to wait."""
    waits = []
    for label in chaos.jobs:
        starts = bench.times("start", label)
        for first, second in pairwise(starts):
            deaths = [death for death in chaos.killed if first <= death <= second]
            waits += [second - deaths[0]] if deaths else []
    waits.sort()
    p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))] if waits else 0.0
    print(f"{len(chaos.jobs)} jobs; {chaos.done}; {len(waits)} recoveries, p99 {p99:.2f} s")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pool", POOLS)
def test_a_short_storm(own_bench: Bench, own_valkey: Valkey, pool: str) -> None:
    """Half a minute of it."""
    _run(own_bench, own_valkey, pool, 20, random.randrange(2**32))


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pool", POOLS)
def test_a_long_storm(own_bench: Bench, own_valkey: Valkey, pool: str) -> None:
    """Ten minutes of it."""
    _run(own_bench, own_valkey, pool, 600, random.randrange(2**32))
