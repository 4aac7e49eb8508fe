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

from celery import Celery
from saq import Queue

from service import create_app
from service.tasks.demo import my_add
from tests.support.valkey import Valkey

AT_ONCE = 64
ROUNDS = 3


async def rate(one: Callable[[], Awaitable[object]], jobs: int) -> tuple[float, float]:
    """Jobs a second and microseconds of processor time a job: the best of some rounds."""
    best = (0.0, 0.0)
    for _ in range(ROUNDS):
        left = jobs

        async def client() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await one()

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        taken, used = time.perf_counter() - began, time.process_time() - used
        best = max(best, (jobs / taken, used / jobs * 1e6))
    return best


def memory() -> float:
    """The most that this process has used, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


async def measure(valkey: Valkey) -> None:
    """Print one line for each."""
    app = create_app({"SERVICE_REDIS_URL": valkey.url})
    async with app.test_app(), app.app_context():
        ours = await rate(lambda: my_add.enqueue(1, 2), 20_000)
        valkey.flush()
        gc.collect()
        before = memory()
        for _ in range(5):
            await rate(lambda: my_add.enqueue(1, 2), 100_000 // ROUNDS // 5)
            valkey.flush()
        growth = memory() - before

    stock = Celery(broker=valkey.url, backend=valkey.url)

    @stock.task(name="demo.my_add")
    def stock_add(a: int, b: int) -> int:
        return a + b

    async def delay() -> object:
        return stock_add.delay(1, 2)

    celery = await rate(delay, 2_000)
    valkey.flush()

    queue = Queue.from_url(valkey.url)
    saq = await rate(lambda: queue.enqueue("my_add", a=1, b=2), 10_000)
    await queue.disconnect()

    for name, (jobs, used) in {"ours": ours, "delay()": celery, "SAQ": saq}.items():
        print(f"{name:10} {jobs:8.0f} jobs/s  {used:6.0f} us of processor time a job")
    print(f"ours / delay()  {ours[0] / celery[0]:.1f}  (goal: 8)")
    print(f"ours / SAQ      {ours[0] / saq[0]:.1f}  (goal: above 1)")
    print(f"growth over 100,000 jobs  {growth:.1f} MB  (goal: below 5)")


def main() -> None:
    """Measure with a server of its own."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        asyncio.run(measure(valkey))


if __name__ == "__main__":
    main()
