"""Runs a RabbitMQ server of a test's own, where one is installed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.wait import wait_until

needs_rabbitmq = pytest.mark.skipif(
    shutil.which("rabbitmq-server") is None and not os.environ.get("CI"),
    reason="rabbitmq-server is not installed",
)
# A node and the others ignore what comes from each other, for a while; it takes no new connections
# of theirs, nor they of it, as the cookies differ.
_CUT_OFF: Final = """
    Others = [{others}],
    Pairs = [{{node(), Other}} || Other <- Others] ++ [{{Other, node()}} || Other <- Others],
    Ports = [{{Reader, Port}} || {{Reader, Sender}} <- Pairs,
        {{Node, Port}} <- rpc:call(Reader, erlang, system_info, [dist_ctrl]), Node =:= Sender],
    Cookie = erlang:get_cookie(),
    [timer:apply_after(After, erlang, set_cookie, [Other, Given]) || Other <- Others,
        {{After, Given}} <- [{{1000, cut_off}}, {{1000 + {milliseconds}, Cookie}}]],
    [rpc:cast(Reader, timer, apply_after, [After, prim_inet, ignorefd, [Port, Ignores]])
        || {{Reader, Port}} <- Ports,
        {{After, Ignores}} <- [{{1000, true}}, {{1000 + {milliseconds}, false}}]].
"""
_BIN: Final = Path("/usr/lib/rabbitmq/bin")


@contextmanager
def rabbitmq(folder: Path, port: int = 0, **options: float) -> Iterator[tuple[Process, str]]:
    """A RabbitMQ server of the test's own, with options for its configuration, and its address.

    With the folder and the port of one before it is that one, started anew.
    """
    with _name_server() as names_port:
        node = Node(folder, port or free_port(), names_port, options)
        with node.process() as server:
            server.wait_for_output("completed with", timeout=50)
            yield server, node.url


@dataclass
class Node:
    """A server, of a cluster if there are others; what it keeps is in a folder of its own."""

    folder: Path
    port: int
    names_port: str
    options: Mapping[str, float | str] = field(default_factory=dict)
    home: Path | None = None  # where the nodes of a cluster find their common cookie
    running: Process | None = None
    erlang: str = ""  # more arguments

    @property
    def name(self) -> str:
        return f"test{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def process(self) -> Process:
        """The server's process, not yet started."""
        binary = _BIN / "rabbitmq-server"
        return Process([binary], env=self._env(), cwd=self.folder, name=f"rabbitmq {self.port}")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self.running = self.process().start()
        self.running.wait_for_output("completed with", timeout=90)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.running is not None:
            self.running.close()
            self.running = None

    def stop(self) -> None:
        """End it as an operator does."""
        if self.running is not None:
            self.ask("stop")
            self.running.wait()
            self.kill()

    def ask(self, *command: str) -> str:
        """What rabbitmqctl prints."""
        done = subprocess.run(
            [_BIN / "rabbitmqctl", "-q", "-n", self.name, *command],
            env={**os.environ, **self._env()},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def _env(self) -> dict[str, str]:
        given = "".join(f" -rabbit {name} {value}" for name, value in self.options.items())
        return {
            "HOME": str(self.home or self.folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self.names_port,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none{given}{self.erlang}",
        }


@contextmanager
def frozen(*servers: Process) -> Iterator[None]:
    """Have servers stand still, as they do with their machine."""
    pids = [server.pid for server in servers]
    for pid in pids:
        os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.killpg(pid, signal.SIGCONT)


@dataclass
class Cluster:
    """Three nodes on loopback."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """All nodes, as the setting has them."""
        return ";".join(node.url for node in self.nodes)

    @property
    def alive(self) -> list[Node]:
        """Those that run."""
        return [node for node in self.nodes if node.running is not None]

    def frozen(self) -> AbstractContextManager[None]:
        """Have all nodes stand still."""
        return frozen(*(node.running for node in self.nodes if node.running is not None))

    def cut_off(self, node: Node, seconds: float) -> None:
        """Have a node and the others read nothing of each other, as when a network drops it all.

        It begins a second from now. Clients reach each node.
        """
        others = ", ".join(f"'{other.name}'" for other in self.nodes if other is not node)
        node.ask("eval", _CUT_OFF.format(others=others, milliseconds=int(1000 * seconds)))

    def wait_until_whole(self) -> None:
        """Wait until each node sees all of them."""
        seen = "length(rabbit_nodes:all_running())."
        for node in self.nodes:
            wait_until(
                lambda node=node: node.ask("eval", seen).strip() == f"{len(self.nodes)}",  # type: ignore[misc]  # lambda default
                timeout=90,
                description=f"{node.name} sees all nodes",
            )

    def leader_of(self, queue: str) -> Node | None:
        """The node that leads a quorum queue, if there is one that runs."""
        listed = self.alive[0].ask("list_queues", "name", "leader").splitlines()
        leaders = dict(line.split("\t") for line in listed if "\t" in line)
        return next((node for node in self.alive if node.name == leaders.get(queue)), None)


@contextmanager
def rabbitmq_cluster(folder: Path, erlang: str = "", **options: float | str) -> Iterator[Cluster]:
    """Three nodes that are one cluster, with options for the configuration of each.

    `erlang` is more arguments of its command line.
    """
    ports = [free_port() for _ in range(3)]
    with _name_server() as names_port:
        nodes = []
        for port in ports:
            (own := folder / f"node{port}").mkdir()
            nodes.append(Node(own, port, names_port, options, folder, erlang=f" {erlang}"))
        lines = ["cluster_formation.peer_discovery_backend = classic_config"] + [
            f"cluster_formation.classic_config.nodes.{number} = {node.name}"
            for number, node in enumerate(nodes, 1)
        ]
        try:
            for node in nodes:
                (node.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
                node.start()
            yield Cluster(nodes)
        finally:
            for node in nodes:
                node.kill()


@contextmanager
def _name_server() -> Iterator[str]:
    """The port of Erlang's name server, which the first node starts, and which is ended here."""
    port = str(free_port())
    try:
        yield port
    finally:
        # It leaves the process group of the node. It ends only when no node is known to it.
        end = ["epmd", "-port", port, "-kill"]
        wait_until(
            lambda: b"Killed" in subprocess.run(end, capture_output=True, check=False).stdout,
            description="epmd is ended",
        )
