"""Everything at once, at random: what was submitted has ended, once, and nobody died of it."""

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise

import pytest

from tests.support.broker import MAINLY_ASYNCIO, POOLS, Bench, ready
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
        self.fallen: list[Process] = []
        self.killed: dict[str, float] = {}  # process that ran jobs → when
        self.outages: list[tuple[float, float]] = []
        self.done: list[str] = []
        self._born = 0
        # Its workers' deaths are not a job's own fault here, and some are killed with many.
        bench.options["max_deliveries"] = 100
        for _ in range(3):
            self.bear()
        ready(*self.workers)

    def bear(self) -> None:
        """Start another worker."""
        self._born += 1
        # Enough for a free place to be waiting whenever a job is recovered.
        concurrency = 20 if self.pool == "asyncio" else 4
        worker = self.bench.worker(f"w{self._born}", pool=self.pool, concurrency=concurrency)
        self.workers.append(self.stack.enter_context(worker))

    def submit(self) -> None:
        """Enqueue a job; one that was refused does not count."""
        label = f"j{len(self.jobs)}"
        task = self.chance.choice(["work", "work", "work", "work_in_thread"])
        seconds = self.chance.choice([0, 0.3, 1.0, 3.0])
        countdown = self.chance.choice([None, None, None, 1.5 * self.bench.lease])
        self.jobs[label] = self.bench.send(task, label, seconds, countdown=countdown)

    def strike(self) -> None:
        """Let something go wrong."""
        faults = [self._kill, self._freeze_and_kill, self._pause, self._cut, self._restart]
        fault = self.chance.choice(faults)
        self.done.append(fault.__name__)
        fault()

    def _pick(self) -> Process:
        return self.workers[self.chance.randrange(len(self.workers))]

    def _kill(self) -> None:
        self._bury(self._pick())

    def _freeze_and_kill(self) -> None:
        worker = self._pick()
        os.killpg(worker.pid, signal.SIGSTOP)
        self.submit()
        self._let_pass(0.3)
        self._bury(worker)

    def _bury(self, worker: Process) -> None:
        self.workers.remove(worker)
        group = {note[2] for note in self.bench.notes() if _group_of(note[2]) == worker.pid}
        worker.kill()
        self.killed |= dict.fromkeys(group, time.time())
        self.fallen.append(worker)
        self.bear()

    def _pause(self) -> None:
        worker = self._pick()
        begun = time.time()
        os.killpg(worker.pid, signal.SIGSTOP)
        self._let_pass(0.4 * self.bench.lease)  # less than a lease: nothing may be lost by it
        os.killpg(worker.pid, signal.SIGCONT)
        self.outages.append((begun, time.time()))

    def _cut(self) -> None:
        mine = self.bench.redis.client_id()
        clients = [c["id"] for c in self.bench.redis.client_list() if int(c["id"]) != mine]
        for client in self.chance.sample(clients, min(3, len(clients))):
            self.bench.redis.client_kill_filter(_id=client)

    def _restart(self) -> None:
        begun = time.time()
        self.valkey.kill()
        self._let_pass(self.chance.choice([0.0, 0.5, 1.5 * self.bench.lease]))
        self.valkey.start()
        self.outages.append((begun, time.time()))

    def _let_pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= end, timeout=seconds + 1, description="time passes")


def _group_of(process: str) -> int | None:
    try:
        return os.getpgid(int(process))
    except ProcessLookupError:
        return None


def _run(bench: Bench, valkey: Valkey, pool: str, seconds: float, seed: int) -> None:
    print(f"seed {seed}")
    with ExitStack() as stack:
        chaos = Chaos(stack, bench, valkey, pool, seed)
        try:
            _rage(chaos, seconds)
            _settle(chaos)
        except BaseException:
            # The end of one worker's log does not tell what went wrong between several.
            folder = valkey.folder.parent
            for worker in chaos.workers + chaos.fallen:
                (folder / f"{worker.name}.log").write_text(worker.output)
            print(f"The workers' logs and the jobs' notes are in {folder}")
            raise


def _rage(chaos: Chaos, seconds: float) -> None:
    """Submit and strike for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(chaos.chance.randrange(4, 12)):
            chaos.submit()
        chaos.strike()
        pause = time.monotonic() + chaos.chance.random() * chaos.bench.lease
        wait_until(lambda p=pause: time.monotonic() > p, description="a breath")  # type: ignore[misc]  # lambda default


def _settle(chaos: Chaos) -> None:
    """Wait until all is done, and see that it was done well."""
    bench = chaos.bench
    unfinished = dict(chaos.jobs)

    def all_ended() -> bool:
        for label, job in list(unfinished.items()):
            if bench.state(job) == "SUCCESS":
                del unfinished[label]
        return not unfinished

    try:
        wait_until(all_ended, timeout=180, description="every job has ended well")
        bench.wait_until_empty(timeout=10 * bench.lease)
    except AssertionError:
        print(len(unfinished), "unfinished, the first of them:")
        for label, job in list(unfinished.items())[:5]:
            print(label, bench.times("start", label), bench.result(job))
        for name in ("celery.dead", "celery"):
            print(name, bench.redis.llen(name), bench.redis.lrange(name, 0, 2))
        print("held", bench.redis.zrange("unacked_index", 0, -1, withscores=True)[:5])
        raise
    overlaps = _overlaps(bench)
    never = [label for label in chaos.jobs if not bench.count("end", label)]
    _report(bench, chaos)
    ended = {f"{w.name}: {w.returncode}" for w in chaos.workers if w.returncode is not None}
    assert never == []
    assert overlaps == []
    assert ended == set()


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
    """Say how soon the jobs of killed workers were back, and how long they then had to queue.

    After Redis was away nobody may take over for a lease: told by itself.
    """
    lease = bench.lease
    back_at = _returns(chaos.workers + chaos.fallen)
    recovered: list[float] = []
    disturbed: list[float] = []
    queued: list[float] = []
    for label, job in chaos.jobs.items():
        for (process, first), (_, second) in pairwise(bench.starts(label)):
            death = chaos.killed.get(process, second)
            back = [at for at in back_at.get(job, ()) if death <= at <= second]
            if not back:
                continue
            away = any(begun < back[0] and end > first - lease for begun, end in chaos.outages)
            (disturbed if away else recovered).append(back[0] - death)
            queued.append(second - back[-1])
            if back[0] - death > 1.5 * lease:
                print(f"{job}: killed at {death:.2f}, back at {back[0]:.2f}, {away=}")
    print(f"{len(chaos.jobs)} jobs, {len(chaos.fallen)} kills, {Counter(chaos.done)}")
    print(f"back in the queue after a kill: {_spread(recovered, lease)}")
    print(f"the same around pauses of workers and outages of Redis: {_spread(disturbed, lease)}")
    print(f"and then queued: {_spread(queued, lease)}")


def _spread(seconds: list[float], lease: float) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p50, p99 = (ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99))
    return f"{len(ordered)}, p50 {p50 / lease:.2f}, p99 {p99 / lease:.2f} leases"


_RETURN = re.compile(r"^\[([\d-]+ [\d:]+),(\d+): .*The lease on job (\S+) expired", re.MULTILINE)


def _returns(workers: list[Process]) -> dict[str, list[float]]:
    """When each job was put back into its queue, by the workers' logs."""
    found: dict[str, list[float]] = {}
    for worker in workers:
        for moment, milliseconds, job in _RETURN.findall(worker.output):
            at = datetime.fromisoformat(moment).timestamp() + int(milliseconds) / 1000
            found.setdefault(job, []).append(at)
    return {job: sorted(times) for job, times in found.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_a_short_storm(own_bench: Bench, own_valkey: Valkey, pool: str) -> None:
    """A quarter of a minute of it."""
    _run(own_bench, own_valkey, pool, 15, random.randrange(2**32))


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pool", POOLS)
def test_a_long_storm(own_bench: Bench, own_valkey: Valkey, pool: str) -> None:
    """Ten minutes of it, or as many seconds as CHAOS_SECONDS says."""
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    _run(own_bench, own_valkey, pool, seconds, random.randrange(2**32))
