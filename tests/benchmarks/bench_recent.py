"""What keeping the list of recent jobs costs a worker and an enqueuer, in one run.

Run it with `python -m tests.benchmarks.bench_recent`. Rounds with and without take turns, and the
median of how two that were neighbours differ is told, because the machine's speed changes: of the
rate, and of the processor time of a job, which other processes disturb less. An enqueuer's turns
are short and many.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from service import create_app
from service.dashboard.extension import dashboard_of
from service.parts import parts_of
from service.tasks.demo import my_add
from tests.support.process import Process, processor_seconds
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

JOBS: Final = 24_000  # for a worker: long enough that its start does not count
ROUNDS: Final = 5
SENT: Final = 4_096  # by an enqueuer in one turn
PAIRS: Final = 40  # of its turns
APPS: Final = {"with": "worker_entry", "without": "tests.benchmarks.unwatched"}


async def fill(url: str) -> None:
    """Enqueue the round's jobs."""
    app = create_app({"SERVICE_REDIS_URL": url})
    async with app.test_app(), app.app_context():
        for _ in range(JOBS // 200):
            await asyncio.gather(*(my_add.enqueue(1, 2) for _ in range(200)))


def work(valkey: Valkey, app: str) -> tuple[float, float]:
    """Jobs a second, and microseconds of the worker's processor time a job."""
    valkey.flush()
    asyncio.run(fill(valkey.url))
    argv = [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "100", "-l", "WARNING"]
    with valkey.client() as redis, Process(argv, env={"SERVICE_REDIS_URL": valkey.url}) as worker:

        def left() -> int:
            return int(redis.llen("celery")) + int(redis.hlen("unacked"))

        wait_until(lambda: left() < JOBS - 500, timeout=30, description="it works")
        begun, first, used = time.perf_counter(), left(), processor_seconds(worker.pid)
        wait_until(lambda: left() == 0, timeout=60, description="all are done")
        taken = time.perf_counter() - begun
        return first / taken, (processor_seconds(worker.pid) - used) / first * 1e6


async def enqueue(url: str) -> list[tuple[float, float]]:
    """Microseconds of processor time to enqueue a job, 64 at once: pairs of without and with.

    Short turns of each in one process, because two processes differ by more than what is measured.
    """
    app = create_app({"SERVICE_REDIS_URL": url})

    recorder = dashboard_of(app).recorder
    changed = parts_of(app).signals.job_changed

    async def turn(name: str) -> float:
        changed.receivers[:] = [recorder.record] if name == "with" else []
        used = time.process_time()
        for _ in range(SENT // 64):
            await asyncio.gather(*(my_add.enqueue(1, 2) for _ in range(64)))
        recorder.report()
        return (time.process_time() - used) / (SENT // 64 * 64) * 1e6

    async with app.test_app(), app.app_context():
        pairs = []
        for number in range(PAIRS + 1):
            turns = {}
            for name in sorted(APPS, reverse=bool(number % 2)):
                turns[name] = await turn(name)
            pairs.append((turns["without"], turns["with"]))
    return pairs[1:]  # in the first all was new


def main() -> None:
    """Print a line for each, and what recording costs."""
    rates: dict[str, list[float]] = {name: [] for name in APPS}
    costs: dict[str, list[float]] = {name: [] for name in APPS}
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for number in range(ROUNDS):
            for name in sorted(APPS, reverse=bool(number % 2)):
                rate, cost = work(valkey, APPS[name])
                rates[name].append(rate)
                costs[name].append(cost)
        valkey.flush()
        pairs = asyncio.run(enqueue(valkey.url))
    for unit, values, sign in (("jobs/s", rates, -1), ("us of processor/job", costs, 1)):
        neighbours = zip(values["without"], values["with"], strict=True)
        change = sign * (median(one[1] / one[0] for one in neighbours) - 1)
        sys.stdout.write(
            f"worker: {median(values['without']):.0f} {unit} without the list,"
            f" {median(values['with']):.0f} with it: costs {change:+.1%}\n"
        )
    without, with_ = (median(values) for values in zip(*pairs, strict=True))
    change = median(one[1] / one[0] for one in pairs) - 1
    sys.stdout.write(
        f"enqueuer: {without:.0f} us of processor/job without the list,"
        f" {with_:.0f} with it: costs {change:+.1%}\n"
    )


if __name__ == "__main__":
    main()
