"""Many small workers on one Valkey: what an idle one costs it, and what a job does.

Run it with `python -m tests.benchmarks.bench_fleet`; `--help` names its options. It prints the
commands, the round trips and the processor time of the server for each worker or
job, the workers' own, and how long the jobs of killed workers take to come back.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quart import Quart
from redis import Redis

from service import create_app
from service.parts import parts_of
from tests.support.process import Process, processor_seconds
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async

_TASKS = "tests.benchmarks.pool_tasks"
_TOKEN = "of-the-benchmark"  # noqa: S105  of no other server
_BATCH = 1000
_LOOKS = 20
_IDLE = 20.0  # seconds


@dataclass
class Spent:
    """What the server and the workers have spent between two moments."""

    seconds: float = 0.0
    commands: int = 0  # those inside scripts too
    reads: int = 0  # of the server's sockets: about one for each round trip
    server: float = 0.0  # seconds of its processor time
    workers: float = 0.0  # the same, of all of them


class Fleet:
    """The workers, and the server that they ask."""

    def __init__(self, redis: Redis, queues: list[str]) -> None:
        self.redis: Any = redis
        self.queues = queues
        self.workers: list[Process] = []
        self._server = int(self.redis.info("server")["process_id"])

    def left(self) -> int:
        """The jobs that wait or run."""
        waiting = sum(self.redis.llen(queue) for queue in self.queues)
        return int(waiting + self.redis.hlen("unacked"))

    @contextmanager
    def spending(self) -> Iterator[Spent]:
        """Say in the end what was spent inside of the block."""
        spent, begun, before = Spent(), time.monotonic(), self._spent()
        yield spent
        spent.seconds = time.monotonic() - begun
        for name, first, last in zip(before, before.values(), self._spent().values(), strict=True):
            setattr(spent, name, last - first)

    def _spent(self) -> dict[str, float]:
        stats = self.redis.info("stats")
        return {
            "commands": sum(each["calls"] for each in self.redis.info("commandstats").values()),
            "reads": stats["total_reads_processed"],
            "server": processor_seconds(self._server),
            "workers": sum(
                processor_seconds(worker.pid)
                for worker in self.workers
                if worker.returncode is None
            ),
        }


def app_with(url: str) -> Quart:
    """The web side's app, which knows the tasks."""
    config = {"SERVICE_TASK_MODULES": _TASKS, "SERVICE_LIMITS": "off"}
    return create_app({"SERVICE_REDIS_URL": url, "SERVICE_ADMIN_TOKEN": _TOKEN, **config})


async def enqueue(
    app: Quart, fleet: "Fleet", jobs: int, task: str, *args: Any, per_second: float = 0.0
) -> None:
    """Enqueue jobs by turns on each queue: as fast as one process can, or so many a second."""
    step = max(1, int(per_second / 20)) if per_second else _BATCH
    begun = time.monotonic()
    async with app.app_context():
        send = parts_of(app).enqueuer.enqueue
        for start in range(0, jobs, step):
            numbers = range(start, min(start + step, jobs))
            queues = [fleet.queues[number % len(fleet.queues)] for number in numbers]
            await asyncio.gather(*(send(task, args, {}, {"queue": queue}) for queue in queues))
            if per_second:
                await asyncio.sleep(begun + (start + step) / per_second - time.monotonic())


async def measure(fleet: Fleet, url: str, jobs: int) -> None:
    """Print a line for each of the questions."""
    workers, app = len(fleet.workers), app_with(url)
    async with app.test_app():
        await enqueue(app, fleet, 100 * workers, "bench.noop")
        await finish(fleet)
        await asyncio.sleep(5)  # until nothing is said of them any more
        with fleet.spending() as idle:
            await asyncio.sleep(_IDLE)
        print(f"idle, a worker and second: {per(idle, workers * idle.seconds)}")
        for title, count, pace in (("200 a second", 4_000, 200.0), ("at once", jobs, 0.0)):
            with fleet.spending() as spent:
                await enqueue(app, fleet, count, "bench.noop", per_second=pace)
                await finish(fleet)
            print(f"{count} jobs {title}, {count / spent.seconds:.0f} a second; a job:", end=" ")
            print(per(spent, count))
        with fleet.spending() as spent:
            for _ in range(_LOOKS):
                await look(app)
        print(f"a look at the dashboard: {per(spent, _LOOKS)}")
        await enqueue(app, fleet, 4 * workers, "bench.nap", 5)
        await wait_until_async(
            lambda: fleet.redis.hlen("unacked") == 4 * workers,
            timeout=60,
            description="all of them have begun",
        )
        killed = fleet.workers[: max(1, workers // 5)]
        for worker in killed:
            worker.kill()
        begun = time.monotonic()
        await finish(fleet)
        print(
            f"{len(killed)} workers killed: all ended {time.monotonic() - begun:.1f} s after that"
        )


def per(spent: Spent, count: float) -> str:
    """What it was for each of so many."""
    return (
        f"{spent.commands / count:.2f} commands, {spent.reads / count:.2f} reads,"
        f" {spent.server / count * 1e6:.0f} µs of the server,"
        f" {spent.workers / count * 1e6:.0f} µs of the workers"
    )


async def finish(fleet: Fleet) -> None:
    """Wait until no job waits or runs."""
    await wait_until_async(lambda: not fleet.left(), timeout=1800, description="all have ended")


async def look(app: Quart) -> None:
    """Read the dashboard as an operator's browser does."""
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    answer = await app.test_client().get("/dashboard", headers=headers)
    assert answer.status_code == 200, answer.status_code


def main() -> None:
    """Start them, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("workers", 50), ("queues", 10), ("jobs", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    queues = [f"q{number}" for number in range(asked.queues)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(Valkey(folder))
        fleet = Fleet(stack.enter_context(valkey.client()), queues)
        env = {"SERVICE_REDIS_URL": valkey.url, "SERVICE_TASK_MODULES": _TASKS}
        worker = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "-l", "WARNING"]
        for number in range(asked.workers):
            command = [*worker, "-Q", ",".join(queues), "-n", f"w{number}@bench", "-c", "20"]
            fleet.workers.append(stack.enter_context(Process(command, env=env, name=f"w{number}")))
        wait_until(
            lambda: fleet.redis.zcard("service:workers:seen") == asked.workers,
            timeout=600,
            description="all workers report",
        )
        asyncio.run(measure(fleet, valkey.url, asked.jobs))


if __name__ == "__main__":
    main()
