"""Nodes of a RabbitMQ cluster are killed under load: what was accepted ends, and ends once."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from quart import Quart

from service import create_app, enqueue
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.fault_tasks import retry_later, work
from tests.support.process import Process
from tests.support.rabbitmq import Cluster, Node, needs_rabbitmq, rabbitmq_cluster
from tests.support.wait import wait_until, wait_until_async

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.chaos,
    pytest.mark.timeout(480),
    needs_rabbitmq,
]

_DELAY = 2.0  # seconds
# Milliseconds until RabbitMQ passes on a delayed message again that a queue has not taken; its
# default is 3 minutes.
_RETRY_DELAYED = 5000
_LAST_END = 120  # seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    options = {"dead_letter_worker_publisher_confirm_timeout": _RETRY_DELAYED}
    with rabbitmq_cluster(folder, **options) as cluster:
        yield cluster


def settings_for(cluster: Cluster, redis_url: str, queue: str) -> dict[str, str]:
    return {
        "SERVICE_REDIS_URL": redis_url,
        "SERVICE_TASK_MODULES": "tests.support.fault_tasks",
        "SERVICE_CELERY__BROKER_URL": cluster.url,
        "SERVICE_CELERY__TASK_DEFAULT_QUEUE": queue,
    }


@asynccontextmanager
async def serving(settings: dict[str, str], **more: str) -> AsyncIterator[Quart]:
    app = create_app({**settings, **more})
    async with app.test_app(), app.app_context():
        yield app


async def test_a_queue_that_is_first_used_after_its_leader_died_takes_jobs(
    cluster: Cluster, redis_url: str
) -> None:
    """No channel that has met the dead leader is kept: it would ask that one until it is back."""
    queues = [f"first-{number}" for number in range(6)]
    settings = settings_for(cluster, redis_url, "first")
    async with serving(settings, SERVICE_ENQUEUE_TIMEOUT="20"):
        await asyncio.gather(*(work.options(queue=queue).enqueue("before") for queue in queues))
    async with serving(settings, SERVICE_ENQUEUE_TIMEOUT="20"):
        await enqueue_in_the_end(work, "first", job_id="connected")
        leader = await asyncio.to_thread(leader_of, cluster, queues[0])
        await asyncio.to_thread(leader.kill)
        try:
            began = time.monotonic()
            await asyncio.gather(*(work.options(queue=queue).enqueue("after") for queue in queues))
            seconds = time.monotonic() - began
        finally:
            await asyncio.to_thread(leader.start)
    print(f"accepted {seconds:.1f} s after the kill")
    assert seconds < 15


def leader_of(cluster: Cluster, queue: str) -> Node:
    """The node that leads a queue, as soon as there is one."""
    leader = wait_until(
        lambda: cluster.leader_of(queue), timeout=60, description=f"a leader of {queue}"
    )
    assert leader is not None
    return leader


class Load:
    """Enqueues single jobs, delayed and retried ones, and chains, all the time."""

    def __init__(self) -> None:
        self.accepted: dict[str, float] = {}  # the moment, by the label of a job
        self.is_over = False
        self._number = 0

    async def run(self) -> None:
        """One after the other; what is refused is enqueued again, with the same id."""
        while not self.is_over:
            self._number += 1
            await self._accept(self._number)
            await asyncio.sleep(0.02)

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
        if kind == 1:
            names = [f"chain-{label}-{part}" for part in "ab"]
            first, second = (work.si(name).set(task_id=name) for name in names)
            await enqueue(chain(first, second))
            return names
        countdown = _DELAY if kind in {2, 3} else None
        options = work.options(job_id=f"work-{label}", countdown=countdown)
        await options.enqueue(f"work-{label}", 0.05)
        return [f"work-{label}"]


@asynccontextmanager
async def load() -> AsyncIterator[Load]:
    """Four callers that enqueue."""
    made = Load()
    running = [asyncio.create_task(made.run()) for _ in range(4)]
    try:
        yield made
    finally:
        made.is_over = True
        await asyncio.wait(running)


def worker(settings: dict[str, str], notes: Path, name: str) -> Process:
    command = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "-l", "INFO"]
    env = {**settings, "BROKER_NOTES": str(notes)}
    return Process([*command, "-c", "20", "-n", f"{name}@%h"], env=env, name=name)


async def ended(app: Quart, ids: list[str]) -> Counter[str]:
    """How many jobs have which state."""
    keys = parts_of(app).keys
    results: Any = await parts_of(app).redis.mget([keys.record(job_id) for job_id in ids])
    ends = ("SUCCESS", "FAILURE", "REVOKED")
    states = [next((e for e in ends if f'"{e}"'.encode() in (r or b"")), "") for r in results]
    return Counter(states)


async def show_failures(app: Quart, ids: list[str]) -> None:
    """Print what is known of jobs that have not succeeded."""
    keys = parts_of(app).keys
    for job_id in ids:
        record: Any = await parts_of(app).redis.get(keys.record(job_id))
        if b'"SUCCESS"' not in record:
            print(record.decode())


async def test_what_was_accepted_ends_once_while_leaders_are_killed(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """The leader is killed and started again, then the next one; no process ends by itself."""
    settings, notes = settings_for(cluster, redis_url, "chaos"), tmp_path / "notes"
    with worker(settings, notes, "one") as one, worker(settings, notes, "two") as two:
        for process in (one, two):
            process.wait_for_output(r"ready\.$", timeout=60)
        async with serving(settings) as app:
            await enqueue_in_the_end(work, "first", job_id="first")
            async with load() as made:
                for _ in range(2):
                    await asyncio.sleep(4)
                    leader = await asyncio.to_thread(leader_of, cluster, "chaos")
                    await asyncio.to_thread(leader.kill)
                    await asyncio.sleep(8)
                    await asyncio.to_thread(leader.start)
                await asyncio.sleep(4)
            ids, began = [*made.accepted], time.monotonic()

            async def all_ended() -> bool:
                return (await ended(app, ids))[""] == 0

            await wait_until_async(all_ended, timeout=_LAST_END, description="every job has ended")
            seconds = time.monotonic() - began
            states = await ended(app, ids)
            await show_failures(app, ids)
        assert (one.returncode, two.returncode) == (None, None)
    lines = [line.split() for line in notes.read_text().splitlines()]
    starts = Counter(label for what, label, *_ in lines if what == "start")
    ends = Counter(label for what, label, *_ in lines if what == "end")
    is_retry = {label for label in ids if label.startswith("retry-")}
    lost = {label for label in ids if not (starts if label in is_retry else ends)[label]}
    twice = {label for label in ends if ends[label] > 1}
    recovered = {label for label in starts if starts[label] > (2 if label in is_retry else 1)}
    unexpected = starts.keys() - {*ids, "first"}
    moments = sorted(made.accepted.values())
    began_at = sorted(float(at) for what, _, __, at, ___ in lines if what == "start")
    print(
        f"{len(ids)} accepted; {dict(states)}; lost {len(lost)}, unexpected {len(unexpected)},"
        f" duplicated {len(twice)}, recovered {len(recovered)};"
        f" longest gap in accepting {longest_gap(moments):.1f} s,"
        f" in running {longest_gap(began_at):.1f} s; the last ended after {seconds:.1f} s"
    )
    assert not lost
    assert not twice
    assert states == {"SUCCESS": len(ids)}


def longest_gap(moments: list[float]) -> float:
    """Seconds between two moments."""
    return max(after - before for before, after in pairwise(moments))
