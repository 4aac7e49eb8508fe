"""A worker's heartbeat, and `service health`, which reads it."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from service import create_app, get_celery
from service.cli.health import health
from service.health.worker import HealthStep
from service.worker.loop.process import process_of
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.support.systemd import Manager
from tests.support.valkey import Valkey
from tests.support.wait import wait_until
from tests.support.workers import worker_process

SCRIPT = Path(sys.executable).parent / "service"


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_a_worker_is_well_from_its_start_to_its_end_though_redis_is_away(
    tmp_path: Path, pool: str
) -> None:
    """Neither Kubernetes nor systemd ends it for that, and both hear when it stops."""
    manager = Manager(tmp_path, watchdog=1.0)
    file = tmp_path / "heartbeat"
    away = f"redis://127.0.0.1:{free_port()}/0"
    port = free_port()
    settings = {"SERVICE_HEALTH_FILE": str(file), "SERVICE_HEALTH_PORT": str(port), **manager.env}
    with worker_process(pool, away, tmp_path, "--hostname", "one@here", **settings) as worker:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1", times=2)
        answer = subprocess.run(
            [SCRIPT, "health", "--file", file], capture_output=True, text=True, check=False
        )
        assert (answer.returncode, answer.stderr) == (0, "")
        assert answer.stdout.startswith("The worker one@here is healthy: its last heartbeat is ")
        assert probe(port, "/healthz") == (200, "healthy")
        assert probe(port, "/readyz") == (503, "The start-up is not done.")
        assert manager.heard("STOPPING=1") == 0
        assert worker.stop() == 0
    assert manager.heard("STOPPING=1") >= 1
    assert not file.exists()
    assert manager.messages[0] == "READY=1"
    manager.close()


def test_a_loop_that_is_blocked_has_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that goes on has it again."""
    manager = Manager(tmp_path, watchdog=0.1)
    for name, value in manager.env.items():
        monkeypatch.setenv(name, value)
    file, port = tmp_path / "heartbeat", free_port()
    app = create_app({"SERVICE_HEALTH_FILE": str(file), "SERVICE_HEALTH_PORT": str(port)})
    worker = SimpleNamespace(app=get_celery(app), pool=None, hostname="one@here")
    step, loop = HealthStep(worker, max_age=1.0), process_of(app).loop
    gate = threading.Event()
    step.start(worker)
    try:
        manager.wait_for("WATCHDOG=1")
        loop.call_soon(gate.wait)
        ask = ["--file", str(file), "--max-age", "1"]
        wait_until(lambda: health(ask) == 1, description="the worker is not healthy")
        told = wait_until(lambda: unless_healthy(port), description="the port tells of it, too")
        assert told
        assert told.startswith("The event loop of the jobs is blocked: ")
        gate.set()
        wait_until(lambda: health(ask) == 0, description="the worker is healthy again")
        wait_until(lambda: unless_healthy(port) is None, description="the port tells of it, too")
    finally:
        gate.set()
        step.stop(worker)
        loop.stop()
        manager.close()


def test_a_port_answers_what_a_worker_is_ready_for() -> None:
    """From its start to its stop, while it has a connection."""
    port = free_port()
    app = create_app({"SERVICE_HEALTH_PORT": str(port)})
    consumer = SimpleNamespace(connection=object())
    worker = SimpleNamespace(app=get_celery(app), pool=None, hostname="one@here", consumer=consumer)
    step = HealthStep(worker)
    assert step.include_if(worker)
    step.start(worker)
    try:
        wait_until(lambda: is_open(port), description="the port is open")
        assert probe(port, "/readyz") == (503, "The start-up is not done.")
        step.tell_taking()
        assert probe(port, "/readyz") == (200, "ready")
        assert probe(port, "/elsewhere")[0] == 404
        assert httpx.head(f"http://127.0.0.1:{port}/readyz").content == b""
        consumer.connection = None
        lost = "The worker has lost its connection to the broker."
        assert probe(port, "/readyz") == (503, lost)
        step.tell_stopping()
        assert probe(port, "/readyz") == (503, "The worker is stopping.")
        assert probe(port, "/healthz") == (200, "healthy")
    finally:
        step.stop(worker)
        process_of(app).loop.stop()
    assert not is_open(port)


@pytest.mark.chaos
@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_a_worker_that_lost_redis_is_not_ready_until_it_is_back(
    tmp_path: Path, own_valkey: Valkey, pool: str
) -> None:
    """Celery's consumer has no connection for as long."""
    port = free_port()
    setting = {"SERVICE_HEALTH_PORT": str(port)}
    with worker_process(pool, own_valkey.url, tmp_path, **setting) as worker:
        for _ in range(2):
            wait_until(
                lambda: is_open(port) and probe(port, "/readyz") == (200, "ready"),
                timeout=60,
                description="the worker is ready",
            )
            own_valkey.kill()
            wait_until(
                lambda: probe(port, "/readyz")[0] == 503,
                timeout=60,
                description="the worker is not ready",
            )
            assert probe(port, "/healthz") == (200, "healthy")
            own_valkey.start()
        assert worker.stop() == 0


def probe(port: int, path: str) -> tuple[int, str]:
    """The status, and what the answer says."""
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30)
    found = answer.json()
    return answer.status_code, found.get("status") if answer.is_success else found["detail"]


def unless_healthy(port: int) -> str | None:
    """What is said to a probe that fails; None where it succeeds."""
    status, detail = probe(port, "/healthz")
    return detail if status == 503 else None


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_there_is_no_heartbeat_where_nobody_looks() -> None:
    """The step is left out, with its thread."""
    worker = SimpleNamespace(app=get_celery(create_app()), pool=None, hostname="one@here")
    assert not HealthStep(worker).include_if(worker)


def test_an_old_or_missing_heartbeat_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a worker that was killed stays."""
    file = tmp_path / "heartbeat"
    monkeypatch.setenv("SERVICE_HEALTH_FILE", str(file))
    assert health([]) == 1
    assert capsys.readouterr().out == f"No worker has a heartbeat in {file}: {os.strerror(2)}.\n"
    file.write_text("one@here\n")
    os.utime(file, (0, 0))
    assert health([]) == 1
    assert "The worker one@here is not healthy: its last heartbeat is " in capsys.readouterr().out
    monkeypatch.delenv("SERVICE_HEALTH_FILE")
    with pytest.raises(SystemExit):
        health([])
    assert "SERVICE_HEALTH_FILE" in capsys.readouterr().err


def test_the_answer_imports_nothing_that_takes_long() -> None:
    """Kubernetes starts it every few seconds beside the worker."""
    code = (
        "import sys; before = set(sys.modules); from service.__main__ import run_command\n"
        "sys.argv = ['service', 'health', '--file', '/nowhere']\n"
        "try: run_command()\n"
        "finally: print(*set(sys.modules) - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout.startswith("No worker has a heartbeat in /nowhere"), run.stderr
    imported = set(run.stdout.splitlines()[-1].split())
    others = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others == {
        "service",
        "service.__main__",
        "service.lazy",
        "service.cli",
        "service.cli.health",
    }
