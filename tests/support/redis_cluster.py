"""Runs a real cluster of Valkey servers: three masters, each with a replica."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from tests.support.ports import free_port
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

_SLOTS: Final = 16_384
_MASTERS: Final = 3
_NODE_TIMEOUT: Final = 1000  # milliseconds without an answer after which a node counts as failed


class Node(Valkey):
    """A server of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.bus_port = free_port()
        folder.mkdir()
        cluster = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(_NODE_TIMEOUT),
            "cluster-replica-validity-factor": "0",  # a replica that was long alone may take over
            "appendonly": "yes",
            "repl-diskless-sync-delay": "0",
        }
        super().__init__(folder, cluster)

    def ask(self, *command: object) -> Any:
        """What the server answers; None where it does not."""
        try:
            with self.client() as client:
                execute: Any = client.execute_command
                return execute(*command)
        except (RedisError, OSError):
            return None

    def info(self) -> dict[str, Any]:
        """What the server says of itself and of the cluster; empty where it does not."""
        try:
            with self.client() as client:
                execute: Any = client.execute_command
                return {**client.info("replication"), **execute("CLUSTER INFO")}
        except (RedisError, OSError):
            return {}

    @property
    def is_master(self) -> bool:
        """Whether it is a master just now."""
        return self.info().get("role") == "master"

    @property
    def is_whole(self) -> bool:
        """Whether all slots are served, as this server sees it, and it has its own part."""
        info = self.info()
        is_linked = info.get("role") == "master" or info.get("master_link_status") == "up"
        return info.get("cluster_state") == "ok" and is_linked


class RedisCluster:
    """Six servers, and the settings of a service that has its keys in one slot of theirs."""

    prefix = "{shop}:"

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        masters, replicas = nodes[:_MASTERS], nodes[_MASTERS:]
        for number, node in enumerate(masters):
            first, last = (_SLOTS * n // _MASTERS for n in (number, number + 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for node in nodes[1:]:
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)

        def all_met() -> bool:
            known = [str(node.info().get("cluster_known_nodes")) for node in nodes]
            return known == [str(len(nodes))] * len(nodes)

        wait_until(all_met, description="the nodes know each other")
        for master, replica in zip(masters, replicas, strict=True):
            self._follow(replica, master)
        self.wait_until_whole()

    def _follow(self, replica: Node, master: Node) -> None:
        # The replica may not know yet that the other is a master.
        master_id = master.ask("CLUSTER", "MYID")
        wait_until(
            lambda: replica.ask("CLUSTER", "REPLICATE", master_id),
            description="a replica has its master",
        )

    def wait_until_whole(self) -> None:
        """Wait until all nodes serve."""
        wait_until(
            lambda: all(node.is_whole for node in self.nodes),
            timeout=60,
            description="the cluster is whole",
        )

    @property
    def url(self) -> str:
        """The addresses of some of the nodes."""
        return ";".join(f"redis-cluster://127.0.0.1:{node.port}" for node in self.nodes[:_MASTERS])

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to know."""
        prefix = json.dumps({"global_keyprefix": self.prefix})
        return {
            "SERVICE_REDIS_URL": self.url,
            "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS": prefix,
            "SERVICE_CELERY__RESULT_BACKEND_TRANSPORT_OPTIONS": prefix,
        }

    @property
    def master(self) -> Node | None:
        """The node that has the service's keys; None where there is none just now."""
        return next((node for node in self.nodes if self._serves(node)), None)

    @property
    def replica(self) -> Node:
        """A replica of this node, which has all that it has."""
        master = self.master
        assert master is not None
        return next(n for n in self.nodes if n.info().get("master_port") == master.port)

    def _serves(self, node: Node) -> bool:
        try:
            with node.client() as client:
                client.exists(f"{self.prefix}x")
                return bool(client.info("replication")["role"] == "master")
        except (RedisError, OSError, ResponseError):
            return False

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """A client of the node that has the service's keys now."""
        master = self.master
        assert master is not None
        with master.client() as client:
            yield client


@contextmanager
def redis_cluster(folder: Path) -> Iterator[RedisCluster]:
    """A cluster of six."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(folder / f"node{number}")) for number in range(6)]
        yield RedisCluster(nodes)
