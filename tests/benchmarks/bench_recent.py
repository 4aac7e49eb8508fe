"""What keeping the list of recent jobs costs a worker and an enqueuer, in one run.

Run it with `python -m tests.benchmarks.bench_recent`. Rounds with and without take turns, and the
best of each are compared, because whatever else the machine does can only make a round worse: of
the rate, and of the processor time of a job, which other processes disturb less.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from service import create_app
from service.tasks.demo import my_add
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

JOBS: Final = 24_000  # for a worker: long enough that its start does not count
SENT: Final = 40_000  # by an enqueuer
ROUNDS: Final = 4
APPS: Final = {"with": "worker_entry", "without": "tests.benchmarks.unwatched"}


def processor_seconds(pid: int) -> float:
    """What a process and its threads have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


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


async def enqueue(url: str) -> float:
    """Microseconds of processor time to enqueue a job, 64 at once."""
    app = create_app({"SERVICE_REDIS_URL": url})
    async with app.test_app(), app.app_context():
        await my_add.enqueue(1, 2)
        used = time.process_time()
        for _ in range(SENT // 64):
            await asyncio.gather(*(my_add.enqueue(1, 2) for _ in range(64)))
        return (time.process_time() - used) / (SENT // 64 * 64) * 1e6


def enqueue_apart(url: str, name: str) -> float:
    """The same in a process of its own."""
    before = "import tests.benchmarks.unwatched;" if name == "without" else ""
    code = (
        f"{before}import asyncio;from tests.benchmarks.bench_recent import enqueue;"
        f"print(asyncio.run(enqueue({url!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print a line for each, and what noting costs."""
    rates: dict[str, list[float]] = {name: [] for name in APPS}
    costs: dict[str, list[float]] = {name: [] for name in APPS}
    sends: dict[str, list[float]] = {name: [] for name in APPS}
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for number in range(ROUNDS):
            for name in sorted(APPS, reverse=bool(number % 2)):
                rate, cost = work(valkey, APPS[name])
                rates[name].append(rate)
                costs[name].append(cost)
                sends[name].append(enqueue_apart(valkey.url, name))
    for title, unit, values, sign in (
        ("worker", "jobs/s", rates, -1),
        ("worker", "us of processor/job", costs, 1),
        ("enqueuer", "us of processor/job", sends, 1),
    ):
        best = {name: sign * min(sign * one for one in found) for name, found in values.items()}
        change = sign * (best["with"] / best["without"] - 1)
        sys.stdout.write(
            f"{title}: {best['without']:.0f} {unit} without the list,"
            f" {best['with']:.0f} with it: costs {change:+.1%}\n"
        )


if __name__ == "__main__":
    main()
