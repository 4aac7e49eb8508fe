"""Runs a RabbitMQ server of a test's own, where one is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.wait import wait_until

needs_rabbitmq = pytest.mark.skipif(
    shutil.which("rabbitmq-server") is None and not os.environ.get("CI"),
    reason="rabbitmq-server is not installed",
)


@contextmanager
def rabbitmq(folder: Path, port: int = 0, **options: float) -> Iterator[tuple[Process, str]]:
    """A RabbitMQ server of the test's own, with options for its configuration, and its address.

    With the folder and the port of one before it is that one, started anew.
    """
    given = "".join(f" -rabbit {name} {value}" for name, value in options.items())
    port, names_port = port or free_port(), str(free_port())
    env = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": names_port,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none{given}",
    }
    binary = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    try:
        with Process([binary], env=env, cwd=folder, name="rabbitmq") as server:
            server.wait_for_output("completed with", timeout=50)
            yield server, f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        # Erlang's name server leaves the process group. It ends only when no node is known to it.
        end = ["epmd", "-port", names_port, "-kill"]
        wait_until(
            lambda: b"Killed" in subprocess.run(end, capture_output=True, check=False).stdout,
            description="epmd is ended",
        )
