"""A service has all its keys in one slot of a Redis Cluster, and follows the slot."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from celery import chain, chord
from quart import Quart

from service import create_app, enqueue
from service.errors import BrokerUnavailableError
from service.parts import parts_of
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.fault_tasks import echo, retry_later, work
from tests.support.process import Process
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.wait import wait_until, wait_until_async

_DELAY: Final = 1.0  # seconds
# A job fails whose later jobs, or retry, are to be sent while there is no Redis at all.
_WITH_LATER_JOBS: Final = {"hand_over", "move_slot"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def settings(cluster: RedisCluster, tmp_path: Path) -> dict[str, str]:
    cluster.wait_until_whole()
    return {
        **cluster.settings,
        "SERVICE_TASK_MODULES": "tests.support.fault_tasks",
        "SERVICE_LEASE": "5",
        "BROKER_NOTES": str(tmp_path / "notes"),
    }


def worker(settings: Mapping[str, str], name: str = "worker") -> Process:
    command = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker", "-l", "INFO"]
    command += ["-c", "10", "-n", f"{name}@%h", "--without-mingle"]
    return Process(command, env=settings, name=name)


def notes(settings: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """How often each job was begun and ended."""
    path = Path(settings["BROKER_NOTES"])
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return Counter((what, label) for what, label, *_ in lines)


@asynccontextmanager
async def serving(settings: Mapping[str, str], **more: str) -> AsyncIterator[Quart]:
    app = create_app({**settings, **more})
    async with app.test_app(), app.app_context():
        yield app


async def test_a_service_works_in_a_cluster_and_follows_its_slot(
    cluster: RedisCluster, settings: dict[str, str]
) -> None:
    """Jobs, results, canvases and whoever waits for them; nobody restarts anything."""
    with worker(settings) as running:
        running.wait_for_output(r"ready\.$", timeout=60)
        async with serving(settings) as app:
            assert await (await echo.enqueue("before")).result(timeout=30) == "before"
            through = await work.enqueue("through", 1.5)
            following = asyncio.create_task(through.result(timeout=40))
            await wait_until_async(
                lambda: notes(settings)["start", "through"], description="the job has begun"
            )
            replica = cluster.replica
            assert await asyncio.to_thread(replica.ask, "CLUSTER", "FAILOVER") == "OK"
            await wait_until_async(
                lambda: asyncio.to_thread(lambda: cluster.master is replica),
                description="the slot is with the replica",
            )
            after = await enqueue_in_the_end(echo, "after")
            together = chord([echo.s("a"), echo.s("b")], echo.si("c"))
            assert await after.result(timeout=40) == "after"
            assert await (await enqueue(together)).result(timeout=40) == "c"
            assert await following == "through"
            assert (await app.test_client().get("/readyz")).status_code == 200
        with cluster.client() as client:
            held = f"{cluster.prefix}unacked"
            wait_until(lambda: not client.exists(held), description="nothing is held")
        assert running.returncode is None
    assert notes(settings)["start", "through"] == 1
    with cluster.client() as client:
        assert {key.startswith(cluster.prefix) for key in client.scan_iter()} == {True}
        assert not client.exists(*(f"{cluster.prefix}celery{end}" for end in ("", ".dead")))


class Load:
    """Enqueues single jobs and delayed ones all the time, and maybe retried ones and chains."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_later_jobs = name in _WITH_LATER_JOBS
        self.accepted: dict[str, float] = {}  # the moment, by the label of a job
        self.is_over = False
        self._number = 0

    async def run(self) -> None:
        """One after the other; what is refused is enqueued again, with the same id."""
        while not self.is_over:
            self._number += 1
            labels = await wait_until_async(
                partial(self._enqueue, self._number), description="a job is accepted"
            )
            self.accepted |= dict.fromkeys(labels, time.monotonic())
            await asyncio.sleep(0.02)

    async def _enqueue(self, number: int) -> list[str]:
        try:
            if number % 10 == 0 and self._has_later_jobs:
                label = f"retry-{self._name}-{number}"
                await retry_later.options(job_id=label).enqueue(label, _DELAY)
                return [label]
            if number % 10 == 1 and self._has_later_jobs:
                labels = [f"chain-{self._name}-{number}-{part}" for part in "ab"]
                await enqueue(chain(*(work.si(label).set(task_id=label) for label in labels)))
                return labels
            label = f"work-{self._name}-{number}"
            countdown = _DELAY if number % 10 in {2, 3} else None
            await work.options(job_id=label, countdown=countdown).enqueue(label, 0.05)
        except BrokerUnavailableError:
            return []
        return [label]


@asynccontextmanager
async def load(name: str) -> AsyncIterator[Load]:
    """Four callers that enqueue."""
    made = Load(name)
    running = [asyncio.create_task(made.run()) for _ in range(4)]
    try:
        yield made
    finally:
        made.is_over = True
        await asyncio.wait(running)


class Faults:
    """What becomes of the master that has the slot; each waits until all is well again."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster

    def hand_over(self) -> None:
        replica = self._cluster.replica
        replica.ask("CLUSTER", "FAILOVER")
        self._wait_for(replica)

    def kill(self) -> None:
        master, replica = self._cluster.master, self._cluster.replica
        assert master is not None
        master.kill()
        self._wait_for(replica)
        master.start()
        self._cluster.wait_until_whole()

    def freeze(self) -> None:
        master, replica = self._cluster.master, self._cluster.replica
        assert master is not None
        master.freeze()
        wait_until(lambda: replica.info()["role"] == "master", description="the replica takes over")
        master.thaw()
        self._wait_for(replica)
        self._cluster.wait_until_whole()

    def move_slot(self) -> None:
        master = self._cluster.master
        assert master is not None
        slot = master.ask("CLUSTER", "KEYSLOT", self._cluster.prefix)
        other = next(n for n in self._cluster.nodes if n.is_master and n is not master)
        target = other.ask("CLUSTER", "MYID")
        master.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target)
        self._wait_for(other)

    def _wait_for(self, node: object) -> None:
        wait_until(
            lambda: self._cluster.master is node, timeout=60, description="another has the slot"
        )


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["hand_over", "kill", "freeze", "move_slot"])
async def test_what_was_accepted_ends_when_the_slot_has_another_master(
    cluster: RedisCluster, settings: dict[str, str], fault: str
) -> None:
    """With a replica that has each job before it is accepted; no process ends by itself.

    A master that was frozen may answer once more before it learns that it has been replaced: what
    it was told then is lost, as that a job has ended.
    """
    more = {"SERVICE_MIN_REPLICAS": "1"}
    with worker(settings, "one") as one, worker(settings, "two") as two:
        for process in (one, two):
            process.wait_for_output(r"ready\.$", timeout=60)
        async with serving(settings, **more) as app, load(fault) as made:
            await wait_until_async(lambda: len(made.accepted) > 100, description="it runs")
            await asyncio.to_thread(getattr(Faults(cluster), fault))
            so_far = len(made.accepted)
            await wait_until_async(
                lambda: len(made.accepted) > so_far + 100, description="it goes on"
            )
            made.is_over = True
            ids, moments = [*made.accepted], sorted(made.accepted.values())

            async def all_ended() -> bool:
                counts = notes(settings)
                return all(counts[_last_note(label), label] for label in ids)

            await wait_until_async(all_ended, timeout=60, description="all have ended")
            if fault != "freeze":

                async def all_succeeded() -> bool:
                    keys = [parts_of(app).keys.record(job_id) for job_id in ids]
                    records: Any = await parts_of(app).redis.mget(keys)
                    return all(b'"status": "SUCCESS"' in (record or b"") for record in records)

                await wait_until_async(all_succeeded, timeout=60, description="all have succeeded")
        assert (one.returncode, two.returncode) == (None, None)
    counts = notes(settings)
    again = [label for label in ids if counts[_last_note(label), label] > 1 + _is_retry(label)]
    gap = max(after - before for before, after in pairwise(moments))
    print(f"{fault}: {len(ids)} accepted, again {len(again)}, longest gap {gap:.1f} s")


def _is_retry(label: str) -> bool:
    return label.startswith("retry-")


def _last_note(label: str) -> str:
    return "start" if _is_retry(label) else "end"
