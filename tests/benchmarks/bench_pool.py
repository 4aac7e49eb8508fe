"""Measures the asyncio pool beside stock Celery: `python -m tests.benchmarks.bench_pool`.

All in one run: absolute numbers belong to the machine; the ratios are what counts. Options choose
a part, or make it shorter; `--memory` runs 100,000 jobs and takes minutes.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

from service import create_app, get_celery
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

OURS = "tests.benchmarks.pool_tasks"
STOCK = "tests.benchmarks.stock_app"
QUIET = ("--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass(frozen=True)
class Running:
    """A worker with nothing to do yet, a client of its broker, and a way to send it jobs."""

    process: Process
    client: Redis
    celery: Celery

    def send(self, task: str, *args: object, count: int) -> None:
        for _ in range(count):
            self.celery.send_task(task, args)

    def stopped(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def going(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def left(self) -> int:
        """Jobs that wait or run."""
        return int(self.client.llen("celery")) + int(self.client.hlen("unacked"))

    def seconds_to_finish(self, timeout: float = 300) -> float:
        began = time.monotonic()
        self.going()
        wait_until(lambda: self.left() == 0, timeout=timeout, description="all jobs are done")
        return time.monotonic() - began

    def megabytes(self, field: str = "VmHWM") -> float:
        """Memory of the worker; only where there is /proc."""
        path = Path(f"/proc/{self.process.pid}/status")
        lines = path.read_text().splitlines() if path.exists() else []
        return next((int(x.split()[1]) / 1024 for x in lines if x.startswith(field)), 0.0)


@contextmanager
def worker(app: str, *options: str) -> Iterator[Running]:
    """A warm worker of `app` on a Valkey of its own."""
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        env = {"SERVICE_REDIS_URL": valkey.url, "SERVICE_TASK_MODULES": OURS}
        command = [sys.executable, "-m", "celery", "-A", app, "worker", *QUIET, *options]
        with Process(command, env=env, name=app) as process, valkey.client() as client:
            running = Running(process, client, client_app(app, valkey.url))
            running.send("bench.noop", count=10)
            running.seconds_to_finish()
            yield running


def client_app(app: str, redis_url: str) -> Celery:
    if app == STOCK:
        return Celery(broker=redis_url, backend=redis_url)
    return get_celery(create_app({"SERVICE_REDIS_URL": redis_url, "SERVICE_TASK_MODULES": OURS}))


def jobs_a_second(running: Running, count: int) -> float:
    running.stopped()
    running.send("bench.noop", count=count)
    return count / running.seconds_to_finish()


def noop(count: int) -> None:
    """No-op jobs, everything already in the queue, the stock transport on both sides."""
    with worker("worker_entry") as ours:
        mine = jobs_a_second(ours, count)
    with worker(STOCK, "--pool", "prefork", "--concurrency", "2") as stock:
        theirs = jobs_a_second(stock, count)
    with worker(STOCK, "--pool", "prefork", "--concurrency", "1") as stock:
        one = jobs_a_second(stock, count)
    say("no-op jobs/s: asyncio pool, one process", mine)
    say("no-op jobs/s: stock prefork, one child", one, mine / one)
    say("no-op jobs/s: stock prefork, two children", theirs, mine / theirs)


def sleeping(count: int, seconds: float) -> None:
    """As many jobs at once as there are, beside as many threads of a stock worker as it bears."""
    with worker("worker_entry", "--concurrency", str(count)) as ours:
        ours.stopped()
        ours.send("bench.nap", seconds, count=count)
        took = ours.seconds_to_finish()
        say(f"{count} x sleep({seconds:g}): asyncio pool, seconds", took)
        say(f"{count} x sleep({seconds:g}): asyncio pool, MB", ours.megabytes())
    if count <= 1000:
        with worker(STOCK, "--pool", "threads", "--concurrency", str(count)) as stock:
            stock.stopped()
            stock.send("bench.nap", seconds, count=count)
            theirs = stock.seconds_to_finish()
            say(f"{count} x sleep({seconds:g}): stock threads, seconds", theirs, theirs / took)
            say(f"{count} x sleep({seconds:g}): stock threads, MB", stock.megabytes())


def memory() -> None:
    """The worker after 10,000 and after 100,000 jobs."""
    with worker("worker_entry") as ours:
        sizes = []
        for count in (10_000, 90_000):
            ours.send("bench.noop", count=count)
            ours.seconds_to_finish(timeout=900)
            sizes.append(ours.megabytes("VmRSS"))
        say("MB after 10,000 jobs", sizes[0])
        say("MB after 100,000 jobs", sizes[1])
        say("MB more", sizes[1] - sizes[0])


def say(what: str, value: float, ratio: float | None = None) -> None:
    tail = "" if ratio is None else f"   ours is {ratio:.2f} x"
    sys.stdout.write(f"{what:<52}{value:>10.1f}{tail}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000, help="no-op jobs")
    parser.add_argument("--many", action="store_true", help="10,000 x sleep(5) too")
    parser.add_argument("--memory", action="store_true", help="100,000 jobs")
    options = parser.parse_args()
    parts: list[Callable[[], Any]] = [
        lambda: noop(options.jobs),
        lambda: sleeping(1000, 1.0),
    ]
    if options.many:
        parts.append(lambda: sleeping(10_000, 5.0))
    if options.memory:
        parts.append(memory)
    for part in parts:
        part()


if __name__ == "__main__":
    main()
