"""Workers and a web side under load, while something goes wrong; counts what became of each job."""

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from celery import chain, chord
from quart import Quart

from service import create_app, enqueue
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.fault_tasks import retry_later, work
from tests.support.process import Process
from tests.support.rabbitmq import Cluster
from tests.support.wait import wait_until_async

_DELAY: Final = 2.0  # seconds
_LAST_END: Final = 120  # seconds
_TICK: Final = 0.01  # seconds
# What a worker says of a job whose connection is lost.
_LOST: Final = re.compile(r"\[(\S+)\] cannot be acknowledged after a connection loss")
_ENDS: Final = ("SUCCESS", "FAILURE", "REVOKED")


def settings_for(cluster: Cluster, redis_url: str, queue: str) -> dict[str, str]:
    """What web and workers read."""
    return {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_TASK_MODULES": "tests.support.fault_tasks",
        "SERVICE_CELERY__BROKER_URL": cluster.url,
        "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue,
    }


@asynccontextmanager
async def serving(settings: dict[str, str], **more: str) -> AsyncIterator[Quart]:
    """An app that enqueues, in its context."""
    app = create_app({**settings, **more})
    async with app.test_app(), app.app_context():
        yield app


class Load:
    """Enqueues single jobs, delayed and retried ones, chains and chords, all the time."""

    def __init__(self) -> None:
        self.accepted: dict[str, float] = {}  # the moment, by the label of a job
        self.is_over = False
        self.worst_lag = 0.0  # seconds that the event loop was away
        self._number = 0

    async def run(self) -> None:
        """One after the other; what is refused is enqueued again, with the same id."""
        while not self.is_over:
            self._number += 1
            await self._accept(self._number)
            await asyncio.sleep(0.02)

    async def watch_loop(self) -> None:
        """Note how late the event loop is."""
        while not self.is_over:
            asked = time.monotonic()
            await asyncio.sleep(_TICK)
            self.worst_lag = max(self.worst_lag, time.monotonic() - asked - _TICK)

    async def accepts(self) -> float:
        """The seconds until the next job is accepted."""
        began, before = time.time(), len(self.accepted)
        await wait_until_async(lambda: len(self.accepted) > before, description="one is accepted")
        return [*self.accepted.values()][before] - began

    async def _accept(self, number: int) -> None:
        label = f"{number}"
        while True:
            try:
                labels = await self._enqueue(number, label)
            except BrokerUnavailableError:
                await asyncio.sleep(0.05)
            else:
                self.accepted |= dict.fromkeys(labels, time.time())
                return

    async def _enqueue(self, number: int, label: str) -> list[str]:
        kind = number % 10
        if kind == 0:
            await retry_later.options(job_id=f"retry-{label}").enqueue(f"retry-{label}", _DELAY)
            return [f"retry-{label}"]
        if kind in {1, 4}:
            what = "chain" if kind == 1 else "chord"
            names = [f"{what}-{label}-{part}" for part in "abc"]
            jobs = [work.si(name).set(task_id=name) for name in names]
            await enqueue(chain(*jobs) if kind == 1 else chord(jobs[:2], jobs[2]))
            return names
        countdown = _DELAY if kind in {2, 3} else None
        options = work.options(job_id=f"work-{label}", countdown=countdown)
        await options.enqueue(f"work-{label}", 0.05)
        return [f"work-{label}"]


@dataclass
class Report:
    """What became of the jobs."""

    states: Counter[str]
    lost: set[str]
    unexpected: set[str]
    duplicated: set[str]
    recovered: set[str]
    duplicated_without_kill: set[str]
    gap_accepting: float  # seconds
    gap_running: float
    worst_lag: float
    last_end: float  # seconds after the load was over

    def __str__(self) -> str:
        return (
            f"{self.states.total()} accepted; {dict(self.states)};"
            f" lost {len(self.lost)}, unexpected {len(self.unexpected)},"
            f" duplicated {len(self.duplicated)}, recovered {len(self.recovered)};"
            f" longest gap in accepting {self.gap_accepting:.1f} s,"
            f" in running {self.gap_running:.1f} s;"
            f" the event loop was away for {self.worst_lag:.2f} s at most;"
            f" the last job ended after {self.last_end:.1f} s"
        )


@dataclass
class Storm:
    """Some workers, and a load."""

    cluster: Cluster
    settings: dict[str, str]
    notes: Path
    stack: AsyncExitStack
    load: Load = field(default_factory=Load)
    workers: list[Process] = field(default_factory=list)
    fallen: list[Process] = field(default_factory=list)
    report: Report | None = None
    _born: int = 0

    def bear(self) -> Process:
        """Start another worker; each begins with another node."""
        self._born += 1
        name = f"w{self._born}"
        command = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "-l", "INFO"]
        at = self._born % len(self.cluster.nodes)
        urls = [node.url for node in self.cluster.nodes]
        broker = {"SERVICE_CELERY__BROKER_URL": ";".join(urls[at:] + urls[:at])}
        env = {**self.settings, **broker, "BROKER_NOTES": str(self.notes)}
        worker = Process([*command, "-c", "20", "-n", f"{name}@%h"], env=env, name=name)
        self.workers.append(self.stack.enter_context(worker))
        return worker

    def kill(self, worker: Process) -> None:
        """End a worker with SIGKILL."""
        self.workers.remove(worker)
        worker.kill()
        self.fallen.append(worker)

    async def settle(self, app: Quart) -> Report:
        """Wait until each job has ended, and count."""
        ids, began = [*self.load.accepted], time.monotonic()

        async def all_ended() -> bool:
            return (await _ended(app, ids))[""] == 0

        try:
            await wait_until_async(all_ended, timeout=_LAST_END, description="every job has ended")
        finally:
            await _show_failures(app, ids)
        seconds = time.monotonic() - began
        return self._count(ids, await _ended(app, ids), seconds)

    def _count(self, ids: list[str], states: Counter[str], seconds: float) -> Report:
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        starts = Counter(label for what, label, *_ in lines if what == "start")
        ends = Counter(label for what, label, *_ in lines if what == "end")
        is_retry = {label for label in ids if label.startswith("retry-")}
        killed = {str(worker.pid) for worker in self.fallen}
        # A job of a canvas is sent again where the one before it is run again. A job is run again
        # where a kill, of its worker or of the node that it came from, fell before its ack.
        excused = {_family(label) for what, label, pid, *_ in lines if pid in killed}
        for worker in self.workers + self.fallen:
            excused |= {_family(label) for label in _LOST.findall(worker.output)}
        twice = {label for label in ends if ends[label] > 1}
        began_at = sorted(float(at) for what, _, __, at, ___ in lines if what == "start")
        return Report(
            states=states,
            lost={label for label in ids if label not in (starts if label in is_retry else ends)},
            unexpected=starts.keys() - {*ids, "first"},
            duplicated=twice,
            recovered={label for label in starts if starts[label] > 1 + (label in is_retry)},
            duplicated_without_kill={label for label in twice if _family(label) not in excused},
            gap_accepting=_longest_gap(sorted(self.load.accepted.values())),
            gap_running=_longest_gap(began_at),
            worst_lag=self.load.worst_lag,
            last_end=seconds,
        )


@asynccontextmanager
async def storm(
    cluster: Cluster, redis_url: str, folder: Path, queue: str, *, workers: int = 2
) -> AsyncIterator[Storm]:
    """Four callers that enqueue, and workers; on the way out, all jobs have ended once.

    No worker ends by itself. A job may have ended twice where its worker was killed, or the node
    that it came from, before it was acknowledged.
    """
    settings = settings_for(cluster, redis_url, queue)
    async with AsyncExitStack() as stack:
        made = Storm(cluster, settings, folder / "notes", stack)
        for worker in [made.bear() for _ in range(workers)]:
            await asyncio.to_thread(worker.wait_for_output, r"ready\.$", 60)
        app = await stack.enter_async_context(serving(settings))
        await enqueue_in_the_end(work, "first", job_id="first")
        load = made.load
        running = [asyncio.create_task(run()) for run in (*[load.run] * 4, load.watch_loop)]
        try:
            yield made
        except BaseException:
            _keep_logs(made, folder)
            raise
        finally:
            load.is_over = True
            await asyncio.wait(running)
        try:
            made.report = report = await made.settle(app)
            print(report)
            assert {worker.name: worker.returncode for worker in made.workers} == {
                worker.name: None for worker in made.workers
            }
            assert not report.lost
            assert not report.duplicated_without_kill
            assert report.states == {"SUCCESS": len(load.accepted)}
        except BaseException:
            _keep_logs(made, folder)
            raise


def _keep_logs(made: Storm, folder: Path) -> None:
    """The end of one worker's log does not tell what went wrong between several."""
    for worker in made.workers + made.fallen:
        (folder / f"{worker.name}.log").write_text(worker.output)
    print(f"The workers' logs and the jobs' notes are in {folder}")


async def _ended(app: Quart, ids: list[str]) -> Counter[str]:
    """How many jobs have which state."""
    keys = parts_of(app).keys
    results: Any = await parts_of(app).redis.mget([keys.record(job_id) for job_id in ids])
    states = [next((e for e in _ENDS if f'"{e}"'.encode() in (r or b"")), "") for r in results]
    return Counter(states)


async def _show_failures(app: Quart, ids: list[str]) -> None:
    """Print what is known of jobs that have not succeeded."""
    keys = parts_of(app).keys
    for job_id in ids:
        record: Any = await parts_of(app).redis.get(keys.record(job_id))
        if b'"SUCCESS"' not in (record or b""):
            print(job_id, record and record.decode())


def _family(label: str) -> str:
    """What the jobs of one canvas have in common; of a single job its label."""
    return label.rstrip("-abc")


def _longest_gap(moments: list[float]) -> float:
    """Seconds between two moments."""
    return max(after - before for before, after in pairwise(moments))
