"""Faults of a RabbitMQ cluster and of workers under load: what was accepted ends, and ends once."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.rabbitmq.storm import serving, settings_for, storm
from tests.support.enqueuing import enqueue_in_the_end
from tests.support.fault_tasks import work
from tests.support.rabbitmq import Cluster, Node, needs_rabbitmq, rabbitmq_cluster
from tests.support.wait import wait_until

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.chaos,
    pytest.mark.timeout(480),
    needs_rabbitmq,
]

# Milliseconds until RabbitMQ passes on a delayed message again that a queue has not taken; its
# default is 3 minutes.
_RETRY_DELAYED = 5000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As the guide has it set up."""
    folder = tmp_path_factory.mktemp("cluster")
    options: dict[str, float | str] = {
        "dead_letter_worker_publisher_confirm_timeout": _RETRY_DELAYED,
        "cluster_partition_handling": "pause_minority",
    }
    erlang = "-kernel net_ticktime 10 -aten poll_interval 1000"
    with rabbitmq_cluster(folder, erlang, **options) as cluster:
        yield cluster


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


async def test_what_was_accepted_ends_once_while_leaders_are_killed(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """The leader is killed and started again, then the next one; no process ends by itself."""
    async with storm(cluster, redis_url, tmp_path, "leaders"):
        for _ in range(2):
            await asyncio.sleep(4)
            leader = await asyncio.to_thread(leader_of, cluster, "leaders")
            await asyncio.to_thread(leader.kill)
            await asyncio.sleep(8)
            await asyncio.to_thread(leader.start)
        await asyncio.sleep(4)


async def test_what_was_accepted_ends_while_workers_are_killed(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """Twenty times one of three, with SIGKILL, and another takes its place."""
    async with storm(cluster, redis_url, tmp_path, "kills", workers=3) as made:
        for _ in range(20):
            made.kill(made.workers[0])
            await asyncio.to_thread(made.bear().wait_for_output, r"ready\.$", 60)


async def test_a_cluster_that_stands_still_for_12_s_is_back_at_once(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """And the event loop has no burst to work off."""
    async with storm(cluster, redis_url, tmp_path, "frozen") as made:
        await asyncio.sleep(4)
        with cluster.frozen():
            await asyncio.sleep(12)
        seconds = await made.load.accepts()
        print(f"accepting {seconds:.2f} s after the freeze")
        await asyncio.sleep(4)
    assert seconds < 5
    assert made.load.worst_lag < 1


async def test_what_was_accepted_ends_once_while_each_node_is_restarted(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """One after the other, as for an upgrade."""
    async with storm(cluster, redis_url, tmp_path, "rolling"):
        await asyncio.sleep(2)
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
            await asyncio.to_thread(node.start)
            await asyncio.sleep(2)


async def test_what_was_accepted_ends_once_while_a_node_is_cut_off(
    cluster: Cluster, redis_url: str, tmp_path: Path
) -> None:
    """It hears nothing of the others, nor they of it; clients reach it until it notices."""
    async with storm(cluster, redis_url, tmp_path, "parted") as made:
        await asyncio.sleep(4)
        leader = await asyncio.to_thread(leader_of, cluster, "parted")
        await asyncio.to_thread(cluster.cut_off, leader, 20)
        await asyncio.sleep(21)
        await asyncio.to_thread(cluster.wait_until_whole)
    assert made.report is not None
    assert made.report.gap_accepting < 15  # before it is over
    assert made.report.gap_running < 15
