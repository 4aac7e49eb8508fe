"""Enqueueing from async code, 64 at once: ours beside Celery's `delay()` and SAQ, in one run.

Run it with `python -m tests.benchmarks.bench_enqueue`.
"""

import asyncio
import gc
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from celery import Celery
from saq import Queue

from service import create_app
from service.tasks.demo import my_add
from tests.support.valkey import Valkey

AT_ONCE = 64
ROUNDS = 6


async def rate(one: Callable[[], Awaitable[object]], jobs: int) -> tuple[float, float]:
    """Jobs a second and microseconds of processor time a job."""
    left = jobs

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await one()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    taken, used = time.perf_counter() - began, time.process_time() - used
    return jobs / taken, used / jobs * 1e6


def memory() -> float:
    """The most that this process has used, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


async def growth(valkey: Valkey) -> float:
    """How many MB 100,000 jobs more add to what 100,000 took.

    They last some seconds: what the dashboard is told of jobs waits in memory for one.
    """

    async def enqueue() -> None:
        for _ in range(5):
            await rate(lambda: my_add.enqueue(1, 2), 20_000)
            valkey.flush()

    await enqueue()
    gc.collect()
    before = memory()
    await enqueue()
    return memory() - before


async def measure(valkey: Valkey) -> None:
    """Print one line for each."""
    stock = Celery(broker=valkey.url, backend=valkey.url)

    @stock.task(name="demo.my_add")
    def stock_add(a: int, b: int) -> int:
        return a + b

    async def delay() -> object:
        return stock_add.delay(1, 2)

    queue = Queue.from_url(valkey.url)
    contenders: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
        "ours": (lambda: my_add.enqueue(1, 2), 20_000),
        "delay()": (delay, 2_000),
        "SAQ": (lambda: queue.enqueue("my_add", a=1, b=2), 10_000),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    app = create_app({"SERVICE_REDIS_URL": valkey.url})
    async with app.test_app(), app.app_context():
        grown = await growth(valkey)  # first: a process never tells that it has shrunk
        for _ in range(ROUNDS):  # in turns: another's load then falls on all of them
            for name, (one, jobs) in contenders.items():
                measured[name].append(await rate(one, jobs))
                valkey.flush()
    await queue.disconnect()

    for name, rounds in measured.items():
        jobs_a_second, used = (median(column) for column in zip(*rounds, strict=True))
        print(f"{name:10} {jobs_a_second:8.0f} jobs/s  {used:6.0f} us of processor time a job")
    for name, goal in (("delay()", "8"), ("SAQ", "above 1")):
        pairs = zip(measured["ours"], measured[name], strict=True)
        ratio = median(ours[0] / theirs[0] for ours, theirs in pairs)
        print(f"ours / {name:8} {ratio:.1f}  (goal: {goal})")
    print(f"growth over 100,000 jobs  {grown:.1f} MB  (goal: below 5)")


def main() -> None:
    """Measure with a server of its own."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        asyncio.run(measure(valkey))


if __name__ == "__main__":
    main()
