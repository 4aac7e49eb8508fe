"""Compares our whole stack with Celery prefork, arq and SAQ, in one run: only the ratios count.

    python -m tests.benchmarks.bench_stack [--jobs N] [--arq PYTHON] [--rounds N] [--large N]

Jobs are no-ops whose results are stored. All of them are queued before a worker may go on.
`--arq` names an interpreter that has arq. A round trip is a read by the server
(`total_reads_processed`), whatever a client has put into it.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from service import create_app
from service.parts import parts_of
from tests.benchmarks.bench_pool import OURS, STOCK, client_app
from tests.benchmarks.bench_transport import cpu_seconds, processes_of
from tests.support.broker import Bench, ready
from tests.support.process import ROOT, Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

QUIET = ("--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
_CELERY = (sys.executable, "-m", "celery", "-A")


@dataclass(frozen=True)
class Stack:
    """A worker's command, how `count` jobs are queued for it, and how many are left."""

    name: str
    command: tuple[str, ...]
    fill: Callable[[str, int], None]
    left: Callable[[Redis], int]


def _left_by_celery(redis: Redis) -> int:
    return int(redis.llen("celery")) + int(redis.hlen("unacked"))


def _left_by_arq(redis: Redis) -> int:
    return int(redis.zcard("arq:queue"))


def _left_by_saq(redis: Redis) -> int:
    return int(redis.zcard("saq:default:incomplete"))


def _fill_ours(url: str, count: int) -> None:
    async def fill() -> None:
        app = create_app({"SERVICE_REDIS_URL": url, "SERVICE_TASK_MODULES": OURS})
        await app.startup()
        async with app.app_context():
            enqueuer = parts_of(app).enqueuer
            for start in range(0, count, 1000):
                wanted = range(start, min(start + 1000, count))
                await asyncio.gather(*(enqueuer.enqueue("bench.noop", (), {}) for _ in wanted))
        await app.shutdown()

    asyncio.run(fill())


def _fill_stock(url: str, count: int) -> None:
    app = client_app(STOCK, url)
    app.conf.task_ignore_result = True  # the sender's matter only: no subscription
    for _ in range(count):
        app.send_task("bench.noop")
    app.close()


def _fill_with(python: str, module: str) -> Callable[[str, int], None]:
    def fill(url: str, count: int) -> None:
        command = [python, "-m", module, str(count)]
        env = {**os.environ, "BENCH_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=env, cwd=ROOT, check=True)

    return fill


def stacks(arq: str) -> list[Stack]:
    """Ours first."""
    found = [
        Stack("ours", (*_CELERY, "worker_entry", "worker", *QUIET), _fill_ours, _left_by_celery),
        Stack(
            "ours x 2",
            (sys.executable, "-m", "service", "worker", "--processes", "2", *QUIET),
            _fill_ours,
            _left_by_celery,
        ),
        Stack(
            "celery prefork x 2",
            (*_CELERY, STOCK, "worker", *QUIET, "-P", "prefork", "-c", "2"),
            _fill_stock,
            _left_by_celery,
        ),
        Stack(
            "saq",
            (sys.executable, "-m", "saq", "tests.benchmarks.saq_jobs.settings", "--quiet"),
            _fill_with(sys.executable, "tests.benchmarks.saq_jobs"),
            _left_by_saq,
        ),
    ]
    if arq:
        found.append(
            Stack(
                "arq",
                (arq, "-m", "arq", "tests.benchmarks.arq_jobs.WorkerSettings"),
                _fill_with(arq, "tests.benchmarks.arq_jobs"),
                _left_by_arq,
            )
        )
    return found


def drain(stack: Stack, count: int) -> tuple[float, float, float]:
    """Jobs a second, round trips a job and CPU microseconds a job of a warm worker.

    It has `count` jobs before it. The CPU is that of all of its processes, which a machine that
    does other things too changes least.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        valkey.client() as redis,
    ):
        env = {
            "SERVICE_REDIS_URL": valkey.url,
            "SERVICE_TASK_MODULES": OURS,
            "BENCH_REDIS_URL": valkey.url,
        }
        with Process(stack.command, env=env, name=stack.name) as worker:
            stack.fill(valkey.url, 50)
            wait_until(lambda: not stack.left(redis), timeout=60, description="it is warm")
            processes = list(processes_of(worker.pid))
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            stack.fill(valkey.url, count)
            reads, begun, asked = _reads(redis), time.perf_counter(), 0
            used = cpu_seconds(worker.pid)
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

            def is_done() -> bool:
                nonlocal asked
                asked += 2
                return not stack.left(redis)

            wait_until(is_done, timeout=900, description="all jobs are done")
            seconds = time.perf_counter() - begun
            used = cpu_seconds(worker.pid) - used
            return count / seconds, (_reads(redis) - reads - asked) / count, used * 1e6 / count


def _reads(redis: Redis) -> int:
    return int(redis.info("stats")["total_reads_processed"])


def latencies(samples: int) -> dict[str, list[float]]:
    """Milliseconds from enqueueing to the first line of the body, on an idle worker; sorted."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(Valkey(folder))
        bench = stack.enter_context(Bench(valkey.url, folder, lease=30))
        with bench.worker(pool="asyncio", concurrency=100) as worker:
            ready(worker)
            ours = _delays(bench, samples, stock=False)
        with bench.worker(stock=True) as worker:
            ready(worker)
            stock = _delays(bench, samples, stock=True)
    return {"ours": sorted(ours), "celery prefork": sorted(stock)}


def _delays(bench: Bench, samples: int, *, stock: bool) -> list[float]:
    """Each side's own way to enqueue, to its own worker; ours runs on a loop of its own."""
    delays = []
    for number in range(-10, samples):  # prefork has two children to warm
        label = f"{'stock' if stock else 'ours'}{number}"
        sent = time.time()
        bench.wait_for(bench.send("work", label, stock=stock))
        bench.wait_until_empty()  # acknowledged: the worker is idle
        if number >= 0:
            delays.append((bench.times("start", label)[0] - sent) * 1e3)
    return delays


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--arq", default="", help="an interpreter that has arq")
    parser.add_argument("--large", type=int, default=0, help="how a long queue compares")
    options = parser.parse_args()
    compared = stacks(options.arq)
    rates: dict[str, list[tuple[float, float, float]]] = {stack.name: [] for stack in compared}
    for _ in range(options.rounds):  # in turns: another's load then falls on all of them
        for stack in compared:
            rates[stack.name].append(drain(stack, options.jobs))
    print(f"{options.jobs} no-op jobs, results stored; medians of {options.rounds}")
    print(f"{'':20}{'jobs/s':>10}{'trips/job':>11}{'CPU us/job':>12}{'ours is':>10}{'by CPU':>10}")
    for stack in compared:
        theirs = rates[stack.name]
        rate, trips, used = (statistics.median(column) for column in zip(*theirs, strict=True))
        pairs = list(zip(rates["ours"], theirs, strict=True))
        faster = statistics.median(ours[0] / their[0] for ours, their in pairs)
        leaner = statistics.median(their[2] / ours[2] for ours, their in pairs)
        print(f"{stack.name:20}{rate:10.0f}{trips:11.2f}{used:12.0f}{faster:9.2f}x{leaner:9.2f}x")
    for name, delays in latencies(200).items():
        p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
        print(f"enqueue to start, idle, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if options.large:
        for count in (2000, options.large, 2000):
            rate, _, used = drain(compared[0], count)
            print(f"{count} jobs: {1e6 / rate:.0f} us each, {used:.0f} us of CPU")


if __name__ == "__main__":
    main()
