"""`service worker`: two real workers that are kept alive, restarted in turn, and stopped as one."""

import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.main import service
from tests.support.process import Process, pids_with_env
from tests.support.systemd import Manager
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds processes by their environment in /proc"
)


def _parent(redis_url: str, folder: Path, mark: str, *options: str, **env: str) -> Process:
    command = [sys.executable, "-m", "service", "worker", "-A", "tests.support.sample_app"]
    return Process(
        [*command, "--processes", "2", *options],
        env={
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
            "SAMPLE_NOTES": str(folder / "notes"),
            "TEST_MARK": mark,
            **env,
        },
        name="service worker",
    )


def _workers(mark: str) -> dict[str, int]:
    """The ids of the processes that run, by the names of their workers."""
    found = {}
    for pid in pids_with_env("TEST_MARK", mark):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if name := re.search(r"--hostname\0(\w+)@", "\0".join(words)):
            found[name[1]] = pid
    return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that hears of the parent."""
    with closing(Manager(tmp_path, watchdog=1.0)) as manager:
        yield manager


def test_workers_live_and_stop_as_one(redis_url: str, tmp_path: Path, manager: Manager) -> None:
    """A killed one is started again, SIGHUP renews all in turn, and a signal stops all in order."""
    mark = uuid.uuid4().hex
    heartbeat = tmp_path / "heartbeat"
    env = {**manager.env, "SERVICE_HEALTH_FILE": str(heartbeat)}
    with _parent(redis_url, tmp_path, mark, "--loglevel", "INFO", **env) as parent:
        parent.wait_for_output(r"All 2 processes have started\.")
        manager.wait_for("READY=1")
        first = _workers(mark)
        assert set(first) == {"worker1", "worker2"}
        wait_until(heartbeat.exists, description="a heartbeat")
        manager.wait_for("WATCHDOG=1", 2)

        killed = first["worker1"]
        parent.wait_for_output(r"worker2@\S+ ready\.")
        os.kill(killed, signal.SIGKILL)
        parent.wait_for_output(r"worker1 was killed by SIGKILL; it is started again in 1 s\.")
        wait_until(
            lambda: _workers(mark).get("worker1", killed) != killed, description="it is started"
        )
        assert _workers(mark)["worker2"] == first["worker2"]

        before = _workers(mark)
        parent.send_signal(signal.SIGHUP)
        parent.wait_for_output(r"All processes have been restarted\.")
        after = _workers(mark)
        assert set(after) == set(before)
        assert not set(after.values()) & set(before.values())

        assert manager.heard("READY=1") == 1  # reads all, for the socket has room for ten
        assert parent.stop() == 0
        assert manager.heard("STOPPING=1") == 1
        assert not heartbeat.exists()
        wait_until(lambda: not pids_with_env("TEST_MARK", mark), description="nothing is left")


def test_an_app_that_cannot_start_is_an_error(redis_url: str, tmp_path: Path) -> None:
    """At once: it would not start the next time either."""
    with _parent(redis_url, tmp_path, "none", "-A", "tests.support.no_such_app") as parent:
        assert parent.wait() == 1
        assert "exited with code 2 before it had started" in parent.output


def test_a_killed_parent_leaves_no_workers(redis_url: str, tmp_path: Path) -> None:
    """They would run beside those of the next one."""
    mark = uuid.uuid4().hex
    with _parent(redis_url, tmp_path, mark) as parent:
        for name in "worker1", "worker2":  # named to the guardian long before
            parent.wait_for_output(rf"---- {name}@")
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not pids_with_env("TEST_MARK", mark), description="nothing is left")


@pytest.mark.parametrize("option", ["-B", "--hostname=x", "--detach"])
def test_what_cannot_be_given_to_many_is_refused(option: str) -> None:
    """With what to do instead."""
    answer = CliRunner().invoke(service, ["worker", option])
    assert answer.exit_code == 2
    assert f"{option} cannot be given. " in answer.output
