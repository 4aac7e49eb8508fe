"""Sending a long group: ours beside Celery's own, each in a process of its own, on one server.

Run it with `python -m tests.benchmarks.bench_canvas`; the number of members may be given. For ours
it also tells how long the slowest other enqueue took meanwhile. A full pass of Python's garbage
collector stops all threads: the longest one is told, too, and one over the members alone beside it.
"""

import asyncio
import gc
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery, group

from service import create_app, enqueue, get_celery
from service.tasks.demo import my_add
from tests.support.valkey import Valkey

SIZES = (20_000, 100_000)


def memory() -> float:
    """The most that this process has used, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Passes:
    """The processor time of the longest pass of the garbage collector, in ms."""

    def __init__(self) -> None:
        self.longest = self._began = 0.0

    def __call__(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.longest = max(self.longest, (time.process_time() - self._began) * 1000)


def pass_alone() -> float:
    """What a full pass takes now, in ms."""
    gc.collect()
    began = time.process_time()
    gc.collect()
    return (time.process_time() - began) * 1000


async def ours(url: str, members: int) -> None:
    """Send it while another client enqueues single jobs."""
    app = create_app({"SERVICE_REDIS_URL": url})
    async with app.test_app(), app.app_context():
        gc.collect()
        gc.freeze()  # as a web process does when it has started
        await my_add.enqueue(1, 2)
        task: Any = get_celery(app).tasks["demo.my_add"]
        canvas = group([task.s(number, 1) for number in range(members)])
        passes, alone = Passes(), pass_alone()
        gc.callbacks.append(passes)
        before, began = memory(), time.perf_counter()
        sending = asyncio.create_task(enqueue(canvas))
        waits = []
        while not sending.done():
            sent = time.perf_counter()
            await my_add.enqueue(1, 2)
            waits.append(time.perf_counter() - sent)
            await asyncio.sleep(0.01)
        await sending
        taken, grown = time.perf_counter() - began, memory() - before
        gc.callbacks.remove(passes)
    waits.sort()
    slowest, usual = waits[-1] * 1000, waits[len(waits) // 2] * 1000
    print(f"ours      {members:8} {members / taken:7.0f} members/s  {grown:6.0f} MB", end="  ")
    print(f"other enqueues: {len(waits)}, usually {usual:.1f} ms, slowest {slowest:.1f} ms")
    print(
        f"          the collector's longest pass {passes.longest:.0f} ms, before it {alone:.0f} ms"
    )


def celerys(url: str, members: int) -> None:
    """Send it by `apply_async`, while nothing else is done."""
    stock = Celery(broker=url, backend=url)

    @stock.task(name="demo.my_add")
    def stock_add(a: int, b: int) -> int:
        return a + b

    stock_add.delay(1, 2)
    canvas = group([stock_add.s(number, 1) for number in range(members)])
    before, began = memory(), time.perf_counter()
    canvas.apply_async()
    taken, grown = time.perf_counter() - began, memory() - before
    print(f"Celery's  {members:8} {members / taken:7.0f} members/s  {grown:6.0f} MB")


def main() -> None:
    """Measure each in a process of its own, as a process never tells that it has shrunk."""
    logging.disable(logging.WARNING)
    if len(sys.argv) > 2:
        _, kind, url, number = sys.argv
        if kind == "ours":
            asyncio.run(ours(url, int(number)))
        else:
            celerys(url, int(number))
        return
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for members in map(int, sys.argv[1:] or SIZES):
            for kind in ("ours", "celerys"):
                program = [sys.executable, "-m", "tests.benchmarks.bench_canvas"]
                subprocess.run([*program, kind, valkey.url, str(members)], check=True)
                valkey.flush()


if __name__ == "__main__":
    main()
