"""Over RabbitMQ, ours beside Celery's own, in one run: only the ratios count.

    python -m tests.benchmarks.bench_rabbitmq [--jobs N] [--rounds N]

Enqueueing from async code, 64 at once: `delay()` does not wait until RabbitMQ has a job, as ours
does; `confirmed` is `delay()` that does. With `--jobs` so many no-op jobs, whose results are
stored, by one worker process of ours and by prefork with two; and how long an idle worker needs to
begin a job. It needs rabbitmq-server.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from celery import Celery
from kombu import Connection
from quart import Quart

from service import create_app
from service.parts import parts_of
from tests.benchmarks.bench_enqueue import rate
from tests.benchmarks.bench_pool import OURS, QUIET, STOCK
from tests.benchmarks.bench_transport import cpu_seconds, processes_of
from tests.support.process import Process
from tests.support.rabbitmq import rabbitmq
from tests.support.valkey import Valkey
from tests.support.wait import wait_until, wait_until_async

_WINDOW = 100  # jobs at the end of which each is looked at
_STARTS = 100  # jobs, one after the other, of an idle worker


def settings(queue_type: str, broker: str, redis_url: str) -> dict[str, str]:
    """What has jobs wait in a queue of this type, which is named so."""
    return {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_CELERY__BROKER_URL": broker,
        "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue_type,
        "SERVICE_CELERY__TASK_DEFAULT_QUEUE_TYPE": queue_type,
        "SERVICE_ENQUEUE_TIMEOUT": "20",
    }


def app_with(queue_type: str, broker: str, redis_url: str) -> Quart:
    """An app whose jobs wait in a queue of this type."""
    return create_app(settings(queue_type, broker, redis_url))


def enqueue_with(app: Quart) -> Callable[[], Awaitable[object]]:
    """What enqueues one job of the app's."""
    enqueuer = parts_of(app).enqueuer
    return lambda: enqueuer.enqueue("demo.my_add", (1, 2), {})


def delay_with(broker: str, redis_url: str, **options: bool) -> Callable[[], Awaitable[object]]:
    """What calls Celery's `delay()`, with these options for its transport."""
    stock = Celery(broker=broker, backend=redis_url)
    stock.conf.broker_transport_options = options

    @stock.task(name="stock.my_add", shared=False)
    def stock_add(a: int, b: int) -> int:
        return a + b

    async def delay() -> object:
        return stock_add.delay(1, 2)

    return delay


def empty(broker: str, *queues: str) -> None:
    """Have the next round begin as this one did."""
    with Connection(broker) as connection:
        channel: Any = connection.default_channel
        for queue in queues:
            channel.queue_purge(queue)


async def measure(broker: str, valkey: Valkey, turns: int) -> None:
    """Print one line for each."""
    contenders: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
        "delay()": (delay_with(broker, valkey.url), 600),
        "confirmed": (delay_with(broker, valkey.url, confirm_publish=True), 600),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    async with AsyncExitStack() as stack:
        for queue_type in ("quorum", "classic"):
            app = app_with(queue_type, broker, valkey.url)
            serving: Any = app.test_app()
            await stack.enter_async_context(serving)
            contenders[queue_type] = enqueue_with(app), 3_000
            measured[queue_type] = []
        for one, _ in contenders.values():  # declares the queues
            await one()
        for _ in range(turns):  # in turns: another's load then falls on all of them
            for name, (one, jobs) in contenders.items():
                measured[name].append(await rate(one, jobs))
            valkey.flush()
            empty(broker, "celery", "quorum", "classic")

    for name, rounds in measured.items():
        jobs_a_second, used = (median(column) for column in zip(*rounds, strict=True))
        print(f"{name:10} {jobs_a_second:8.0f} jobs/s  {used:6.0f} us of processor time a job")
    for peer in ("delay()", "confirmed"):
        for name in ("quorum", "classic"):
            pairs = [*zip(measured[name], measured[peer], strict=True)]
            ratio = median(ours[0] / theirs[0] for ours, theirs in pairs)
            used = median(theirs[1] / ours[1] for ours, theirs in pairs)
            print(f"{name} / {peer:10} {ratio:.1f}, by processor time {used:.1f}  (goal: 6)")


@dataclass(frozen=True)
class Side:
    """A worker's command, and how a job of its tasks is enqueued."""

    name: str
    command: tuple[str, ...]
    app: str

    @asynccontextmanager
    async def sending(self, env: dict[str, str]) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """What enqueues a job of the task, and gives its id."""
        if self.app == STOCK:
            stock = Celery(broker=env["BENCH_BROKER_URL"], set_as_current=False)
            stock.conf.task_ignore_result = True  # the sender's matter only: no subscription
            stock.conf.task_default_queue = env["BENCH_QUEUE"]
            stock.conf.task_default_queue_type = env["BENCH_QUEUE_TYPE"]

            async def send(task: str) -> str:
                return str(stock.send_task(task).id)

            yield send
            stock.close()
            return
        app = create_app(env)
        async with app.test_app():
            enqueuer = parts_of(app).enqueuer

            async def enqueue(task: str) -> str:
                return (await enqueuer.enqueue(task, (), {})).id

            yield enqueue


_CELERY = (sys.executable, "-m", "celery", "-A")
SIDES = (
    Side("ours", (*_CELERY, "worker_entry", "worker", *QUIET), "worker_entry"),
    Side("prefork x 2", (*_CELERY, STOCK, "worker", *QUIET, "-P", "prefork", "-c", "2"), STOCK),
)


async def drain(side: Side, queue_type: str, broker: str, count: int) -> tuple[float, ...]:
    """Jobs a second, CPU microseconds a job of all of a warm worker, and milliseconds to start.

    It has `count` jobs before it. The last figures are the median and the slowest of a hundred.
    """
    queue = f"{queue_type}-{side.name}".replace(" ", "")
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        env = settings(queue_type, broker, valkey.url) | {
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue,
            "SERVICE_TASK_MODULES": OURS,
            "BENCH_BROKER_URL": broker,
            "BENCH_QUEUE": queue,
            "BENCH_QUEUE_TYPE": queue_type,
        }
        with Process(side.command, env=env, name=side.name) as worker, valkey.client() as redis:

            def result(job_id: str) -> list[Any]:
                record = redis.get(f"celery-task-meta-{job_id}")
                found: dict[str, Any] = json.loads(str(record)) if record else {}
                return [found["result"]] if found.get("status") == "SUCCESS" else []

            async with side.sending(env) as send:
                for _ in range(10):  # prefork has two children to warm
                    job = await send("bench.noop")
                    await wait_until_async(
                        partial(result, job), timeout=60, description="it is warm"
                    )
                waits = []
                for _ in range(_STARTS):
                    sent = time.time()
                    job = await send("bench.begun")
                    (began,) = await wait_until_async(partial(result, job), description="it ends")
                    waits.append((began - sent) * 1e3)
                processes = list(processes_of(worker.pid))
                for pid in processes:
                    os.kill(pid, signal.SIGSTOP)
                jobs = [await send("bench.noop") for _ in range(count)]
            used, begun = cpu_seconds(worker.pid), time.perf_counter()
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
            last = jobs[-_WINDOW:]
            for job in reversed(last):
                wait_until(partial(result, job), timeout=120, description="all are done")
            seconds = time.perf_counter() - begun
            used = cpu_seconds(worker.pid) - used
    return count / seconds, used * 1e6 / count, median(waits), sorted(waits)[-_STARTS // 100]


async def measure_jobs(broker: str, count: int, turns: int) -> None:
    """Print one line for each worker and type of queue."""
    print(f"{count} no-op jobs, results stored; and from enqueueing to the start, idle worker")
    for queue_type in ("quorum", "classic"):
        measured: dict[str, list[tuple[float, ...]]] = {side.name: [] for side in SIDES}
        for _ in range(turns):
            for side in SIDES:
                measured[side.name].append(await drain(side, queue_type, broker, count))
        for side in SIDES:
            figures = [median(column) for column in zip(*measured[side.name], strict=True)]
            pairs = [*zip(measured["ours"], measured[side.name], strict=True)]
            faster = median(ours[0] / theirs[0] for ours, theirs in pairs)
            leaner = median(theirs[1] / ours[1] for ours, theirs in pairs)
            print(
                f"{queue_type:8}{side.name:12} {figures[0]:6.0f} jobs/s  {figures[1]:5.0f} us of"
                f" processor time a job  start {figures[2]:.1f} ms, p99 {figures[3]:.1f} ms;"
                f" ours is {faster:.1f} x, by processor time {leaner:.1f} x  (goal: 3)"
            )


def main() -> None:
    """Measure with servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=0, help="how many a worker is to run")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        tempfile.TemporaryDirectory() as rabbit_folder,
        rabbitmq(Path(rabbit_folder)) as (_, broker),
    ):
        if options.jobs:
            asyncio.run(measure_jobs(broker, options.jobs, options.rounds))
        else:
            asyncio.run(measure(broker, valkey, options.rounds))


if __name__ == "__main__":
    main()
