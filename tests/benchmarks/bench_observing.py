"""What a worker and an enqueuer pay for observing jobs: job logs, metrics, recent jobs.

Run it with `python -m tests.benchmarks.bench_observing`. One worker, logging at INFO, has the parts
switched on and off in short turns, and so has one enqueuer: two processes differ by more than what
is measured, and so does one from second to second. Of the enqueuer it is told, too, what a receiver
of Celery's `before_task_publish` costs that does nothing. The median of how the turns of a round
differ in processor time is told. `--task one_line` has jobs that log a line each;
`--parts job-log,metrics` chooses what is switched on together.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, stdev
from typing import Any, Final

from celery.signals import before_task_publish

from service import create_app
from service.dashboard.extension import dashboard_of
from service.metrics.extension import metrics_of
from service.parts import parts_of
from tests.benchmarks import observed_tasks
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

TASKS: Final = "tests.benchmarks.observed_tasks"
JOBS: Final = 300  # for the worker in one turn
ROUNDS: Final = 200
SENT: Final = 256  # by the enqueuer in one turn
PAIRS: Final = 300  # of its turns
NOTHING: Final = ""
RECEIVER: Final = "before_task_publish"
CASES: Final = ("job-log,metrics", "list")


async def measure_worker(
    valkey: Valkey, task: Any, cases: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """Microseconds of processor time for a job, of the turns of each case."""
    waiting = task.options(queue="waiting")  # the worker is to meet all of them at once
    jobs = (rounds + 1) * (len(cases) + 1) * JOBS
    for _ in range(jobs // 100):
        await asyncio.gather(*(waiting.enqueue() for _ in range(100)))
    begin = await observed_tasks.begin.enqueue([NOTHING, *cases], JOBS)
    await begin.result(timeout=60)
    with valkey.client() as redis:
        redis.rename("waiting", "celery")
        await observed_tasks.noop.enqueue()  # the worker is told of it
        wait_until(
            lambda: not redis.llen("celery") and not redis.hlen("unacked"),
            timeout=600,
            description="all are done",
        )
    figures: dict[str, list[float]] = await (await observed_tasks.figures.enqueue()).result()
    return {case: turns[1 : rounds + 1] for case, turns in figures.items()}


async def measure_enqueuer(app: Any, task: Any) -> dict[str, list[float]]:
    """Microseconds of processor time to enqueue a job, 64 at once, in turns of each case."""
    recorder, counts = dashboard_of(app).recorder, metrics_of(app).counts
    receivers = parts_of(app).signals.job_changed.receivers
    known: dict[str, tuple[Callable[..., Any], Callable[[], object]]] = {
        "list": (recorder.record, recorder.report),
        "metrics": (counts.record, lambda: counts.record_lag(0.0)),
    }
    figures: dict[str, list[float]] = {case: [] for case in (NOTHING, *known, RECEIVER)}
    for _ in range(PAIRS):
        for case in random.sample(list(figures), len(figures)):
            receivers[:] = [known[case][0]] if case in known else []
            if case == RECEIVER:
                before_task_publish.connect(_receive)
            began = time.process_time()
            for _ in range(SENT // 64):
                await asyncio.gather(*(task.enqueue() for _ in range(64)))
            if case in known:
                known[case][1]()
            figures[case].append((time.process_time() - began) / SENT * 1e6)
            before_task_publish.disconnect(_receive)
    return figures


def _receive(**_: object) -> None:
    """Stands for what listens to the signal, as OpenTelemetry's instrumentation does."""


def tell(who: str, figures: dict[str, list[float]]) -> None:
    """Print a line for each case."""
    plain = figures[NOTHING]
    sys.stdout.write(f"{who}: {median(plain):.1f} us a job with none of it\n")
    for case, values in figures.items():
        if case:
            changes = [one - other for one, other in zip(values, plain, strict=True)]
            change = median(changes)
            # 1.25: of a median, by how many standard deviations of a mean it is uncertain.
            error = 1.25 * stdev(changes) / len(changes) ** 0.5
            share = f"{change / median(plain):+.1%} ± {error / median(plain):.1%}"
            sys.stdout.write(f"  {case:27}{change:+7.1f} us  {share}\n")


async def measure(valkey: Valkey, name: str, cases: Sequence[str], rounds: int) -> None:
    """Measure with a worker, then without."""
    settings = {
        "SERVICE_REDIS_URL": valkey.url,
        "SERVICE_TASK_MODULES": TASKS,
        "SERVICE_METRICS_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker"]
    app = create_app({**settings, "SERVICE_METRICS_PORT": free_port()})
    task = getattr(observed_tasks, name)
    async with app.test_app(), app.app_context():
        with Process([*command, "-c", "25", "-l", "INFO"], env=settings) as worker:
            worker.wait_for_output(r"ready\.")
            tell("worker", await measure_worker(valkey, task, cases, rounds))
        valkey.flush()
        tell("enqueuer", await measure_enqueuer(app, task))


def main() -> None:
    """Measure with a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("noop", "one_line"), default="noop")
    parser.add_argument("--parts", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        asyncio.run(measure(valkey, given.task, given.parts, given.rounds))


if __name__ == "__main__":
    main()
