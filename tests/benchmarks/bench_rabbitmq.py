"""Enqueueing over RabbitMQ from async code, 64 at once: ours beside Celery's `delay()`, in one run.

`delay()` does not wait until RabbitMQ has a job, as ours does; `confirmed` is `delay()` that does.
Run it with `python -m tests.benchmarks.bench_rabbitmq`. It needs rabbitmq-server.
"""

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from celery import Celery
from kombu import Connection
from quart import Quart

from service import create_app
from service.parts import parts_of
from tests.benchmarks.bench_enqueue import rate
from tests.support.rabbitmq import rabbitmq
from tests.support.valkey import Valkey

ROUNDS = 6


def app_with(queue_type: str, broker: str, redis_url: str) -> Quart:
    """An app whose jobs wait in a queue of this type."""
    return create_app(
        {
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_CELERY__BROKER_URL": broker,
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue_type,
            "SERVICE_CELERY__TASK_DEFAULT_QUEUE_TYPE": queue_type,
            "SERVICE_ENQUEUE_TIMEOUT": "20",
        }
    )


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


async def measure(broker: str, valkey: Valkey) -> None:
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
        for _ in range(ROUNDS):  # in turns: another's load then falls on all of them
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


def main() -> None:
    """Measure with servers of its own."""
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as folder,
        Valkey(Path(folder)) as valkey,
        tempfile.TemporaryDirectory() as rabbit_folder,
        rabbitmq(Path(rabbit_folder)) as (_, broker),
    ):
        asyncio.run(measure(broker, valkey))


if __name__ == "__main__":
    main()
