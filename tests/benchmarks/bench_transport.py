"""Compares our transport with Kombu's own, in one run on one server: only the ratios count.

    python -m tests.benchmarks.bench_transport [--jobs 4000] [--pool solo] [--idle 5]

Results are not stored, so that the numbers are the transport's. A round trip is a read by the
server (`total_reads_processed`), whatever a client has put into it.
"""

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.support.broker import Bench, ready
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one transport; latencies in milliseconds."""

    jobs_per_second: float
    round_trips_per_job: float
    worker_cpu_us_per_job: float
    idle_cpu_percent: float
    start_p50: float
    start_p99: float


def _reads(redis: Redis) -> int:
    return int(redis.info("stats")["total_reads_processed"])


def processes_of(first: int) -> dict[int, int]:
    """The clock ticks that each process has used: the first, its group, and what it has started."""
    ticks = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if first in {int(path.parent.name), int(fields[1]), int(fields[2])}:
            ticks[int(path.parent.name)] = int(fields[11]) + int(fields[12])
    return ticks


def cpu_seconds(first: int) -> float:
    """User and system time of all of these processes."""
    return sum(processes_of(first).values()) / os.sysconf("SC_CLK_TCK")


def _fill(bench: Bench, jobs: int) -> None:
    """Queue copies of one no-op message, each with an id and a tag of its own."""
    job = bench.send("noop", queue="template")
    template = bench.redis.rpop("template")
    assert isinstance(template, str)
    tag = template.split('"delivery_tag": "')[1].split('"')[0]
    with bench.redis.pipeline(transaction=False) as pipe:
        for number in range(jobs):
            text = template.replace(job, f"{job[:-8]}{number:08d}")
            pipe.lpush("celery", text.replace(tag, f"{tag[:-8]}{number:08d}"))
        pipe.execute()


def _drain(bench: Bench, jobs: int, *, pool: str, stock: bool) -> tuple[float, float, float]:
    """Jobs a second, round trips a job, CPU microseconds a job."""
    bench.redis.flushdb()  # a stock worker that was killed leaves what it had not acknowledged
    with bench.worker(pool=pool, concurrency=2, stock=stock) as worker:
        ready(worker)
        bench.send("work", "warm")
        bench.wait_for_note("end", "warm")
        worker_cpu, polls = cpu_seconds(worker.pid), 0
        reads, begun = _reads(bench.redis), time.perf_counter()
        _fill(bench, jobs)

        def empty() -> bool:
            nonlocal polls
            polls += 1
            return not bench.redis.exists("celery", "unacked")

        wait_until(empty, timeout=600, description="everything is done")
        seconds = time.perf_counter() - begun
        trips = _reads(bench.redis) - reads - polls - 5
        cpu = cpu_seconds(worker.pid) - worker_cpu
    return jobs / seconds, trips / jobs, cpu * 1e6 / jobs


def _idle(bench: Bench, seconds: float, *, pool: str, stock: bool) -> tuple[float, list[float]]:
    """CPU of an idle worker in percent of a core, and how soon it starts what comes then."""
    with bench.worker(pool=pool, concurrency=2, stock=stock) as worker:
        ready(worker)
        bench.send("work", "idle")
        bench.wait_for_note("end", "idle")
        cpu, end = cpu_seconds(worker.pid), time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > end, timeout=seconds + 5, description="it idles")
        percent = (cpu_seconds(worker.pid) - cpu) / seconds * 100
        delays = []
        for number in range(200):
            label = f"{'s' if stock else 'o'}{pool}{number}"
            sent = time.time()
            bench.send("work", label, stock=stock)
            bench.wait_for_note("end", label)
            delays.append((bench.times("start", label)[0] - sent) * 1e3)
    return percent, sorted(delays)


def measure(bench: Bench, jobs: int, idle: float, *, pool: str, stock: bool) -> Figures:
    """All figures of one transport."""
    drains = [_drain(bench, jobs, pool=pool, stock=stock) for _ in range(2)]
    speed, trips, cpu = max(drains)
    percent, delays = _idle(bench, idle, pool=pool, stock=stock)
    p99 = delays[int(len(delays) * 0.99)]
    return Figures(speed, trips, cpu, percent, statistics.median(delays), p99)


def crowd(bench: Bench, workers: int, messages: int = 100) -> tuple[float, float]:
    """Scripts and CPU milliseconds (all workers) that one message costs among idle workers."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(bench.worker(f"w{i}", pool="solo", concurrency=1))
            for i in range(workers)
        ]
        for process in processes:
            process.wait_for_output(r"ready\.$", timeout=60)
        bench.send("work", f"warm{workers}")
        bench.wait_for_note("end", f"warm{workers}")
        idle_cpu, idle_scripts, idle_time = _crowd_state(bench, [p.pid for p in processes])
        end = time.monotonic() + 4
        wait_until(lambda: time.monotonic() > end, description="they idle")
        cpu, scripts, now = _crowd_state(bench, [p.pid for p in processes])
        per_second = (scripts - idle_scripts) / (now - idle_time)
        cpu_per_second = (cpu - idle_cpu) / (now - idle_time)
        for number in range(messages):
            bench.send("work", f"c{workers}-{number}")
            bench.wait_for_note("end", f"c{workers}-{number}")
        after = _crowd_state(bench, [p.pid for p in processes])
    seconds = after[2] - now
    spent = after[1] - scripts - per_second * seconds - messages  # each publish is a script
    burnt = after[0] - cpu - cpu_per_second * seconds
    return spent / messages, burnt * 1e3 / messages


def _crowd_state(bench: Bench, groups: list[int]) -> tuple[float, int, float]:
    stats = bench.redis.info("commandstats")
    scripts = sum(int(stats.get(f"cmdstat_{n}", {}).get("calls", 0)) for n in ("eval", "evalsha"))
    return sum(cpu_seconds(group) for group in groups), scripts, time.monotonic()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--pool", default="solo")
    parser.add_argument("--idle", type=float, default=5)
    parser.add_argument("--crowds", type=int, nargs="*", default=[2, 12])
    options = parser.parse_args()
    os.environ["BROKER_CONF"] = '{"task_ignore_result": true, "worker_prefetch_multiplier": 32}'
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(Valkey(folder))
        bench = stack.enter_context(Bench(valkey.url, folder, lease=30))
        figures = {
            name: measure(
                bench, options.jobs, options.idle, pool=options.pool, stock=name == "stock"
            )
            for name in ("stock", "ours")
        }
        stock, ours = figures["stock"], figures["ours"]
        print(f"{options.jobs} no-op jobs, {options.pool}, one worker")
        print(f"{'':24}{'stock':>10}{'ours':>10}{'ratio':>8}")
        for field in Figures.__dataclass_fields__:
            before, after = getattr(stock, field), getattr(ours, field)
            print(f"{field:24}{before:10.2f}{after:10.2f}{after / max(before, 1e-9):8.2f}")
        for workers in options.crowds:
            scripts, cpu = crowd(bench, workers)
            print(
                f"one message among {workers} idle workers: {scripts:.1f} scripts, {cpu:.1f} ms CPU"
            )


if __name__ == "__main__":
    main()
