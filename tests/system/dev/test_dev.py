"""`service dev` end to end: one command, a job that runs, and nothing left behind."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.support.process import ROOT, Process, is_alive, pids_with_env
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

START_WITHIN = 60.0
STOP_WITHIN = 45.0

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="finds processes by their environment in /proc"
)


class Dev:
    """A run of `service dev` on a free port, and every process that belongs to it."""

    def __init__(
        self, *options: str, env: dict[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._valkey_pid: int | None = None
        self.process = Process(
            [sys.executable, "-m", "service", "dev", "--bind", "127.0.0.1:0", *options],
            env={"DEV_TEST_MARK": self._mark, **(env or {})},
            cwd=folder or ROOT,
            name="service dev",
        )

    def pids(self) -> set[int]:
        """All that still runs of it; Valkey, which overwrites its environment, if it was asked."""
        marked = pids_with_env("DEV_TEST_MARK", self._mark)
        if self._valkey_pid and is_alive(self._valkey_pid):
            marked.add(self._valkey_pid)
        return marked

    def redis_url(self) -> str:
        """The address of the private server, which is in a file: the log has no password."""
        pattern = r"^Private Valkey, .*: export SERVICE_REDIS_URL=\$\(cat (.+)\)$"
        (file,) = shlex.split(self.process.wait_for_output(pattern, START_WITHIN)[1])
        url = Path(file).read_text().strip()
        assert str(urlsplit(url).password) not in self.process.output
        return url

    def ask_valkey(self) -> tuple[int, Path]:
        """The private server's process id and folder."""
        url = self.redis_url()
        with Redis.from_url(url, decode_responses=True) as redis:
            self._valkey_pid = int(redis.info("server")["process_id"])
            return self._valkey_pid, Path(redis.config_get("dir")["dir"])

    def wait_for_url(self) -> str:
        """The address, once it is printed."""
        return self.process.wait_for_output(r"^Serving on (http://\S+)", START_WITHIN)[1]

    def wait_until_gone(self) -> None:
        """Nothing of it is left."""
        wait_until(lambda: not self.pids(), timeout=STOP_WITHIN, description="all are gone")

    def __enter__(self) -> "Dev":
        self.process.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.process.returncode is None:  # in order first: Valkey bears no mark to be found by
            self.process.send_signal(signal.SIGTERM)
            with suppress(AssertionError):
                self.process.wait(STOP_WITHIN)
        self.process.__exit__(*error)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A client that prefers JSON."""
    with httpx.Client(headers={"Accept": "application/json"}, timeout=10) as client:
        yield client


def start_job(client: httpx.Client, url: str) -> str:
    """Enqueue a job on the page `/`; its id."""
    answer = client.get(f"{url}/")
    assert answer.status_code == 200, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def wait_for_result(client: httpx.Client, url: str, job_id: str) -> Any:
    """What the job returned."""

    def read() -> dict[str, Any] | None:
        answer = client.get(f"{url}/result/{job_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body if body["ready"] else None

    body = wait_until(read, timeout=20, description=f"job {job_id} is ready")
    assert body is not None
    assert body["state"] == "SUCCESS", body
    return body["result"]


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_command_runs_a_job_and_leaves_nothing(
    client: httpx.Client, number: signal.Signals
) -> None:
    """The promise of the README: start, open, see 3, press Ctrl-C."""
    with Dev("--concurrency", "1") as dev:
        url = dev.wait_for_url()

        assert wait_for_result(client, url, start_job(client, url)) == 3

        dev.process.wait_for_output(r"^worker \| .*1 \+ 2 = 3")
        _, folder = dev.ask_valkey()
        assert len(dev.pids()) >= 5  # the supervisor, its guardian, Valkey, a worker, a web process
        assert dev.process.stop(number, timeout=STOP_WITHIN) == 0
        assert not dev.pids()
        assert not folder.exists()
        assert "Traceback" not in dev.process.output


@needs_proc
def test_it_starts_no_job_of_its_own(own_valkey: Valkey) -> None:
    """Asking whether the web side answers must not enqueue anything; `/` would."""
    with Dev("--concurrency", "1", env={"SERVICE_REDIS_URL": own_valkey.url}) as dev:
        dev.wait_for_url()
        dev.process.wait_for_output(r"^worker \| .* ready\.$")
        with own_valkey.client() as redis:
            assert list(redis.scan_iter("celery-task-meta-*")) == []
        assert "Using the Redis of SERVICE_REDIS_URL." in dev.process.output
        assert "valkey | " not in dev.process.output
        assert dev.process.stop(timeout=STOP_WITHIN) == 0


@needs_proc
def test_data_is_kept_across_runs(client: httpx.Client, tmp_path: Path) -> None:
    """With --data a result is still there tomorrow; two runs never share the folder."""
    data = tmp_path / "my data"
    token = {"SERVICE_ADMIN_TOKEN": "a-token-of-this-test"}
    with Dev("--data", str(data), "--concurrency", "1", env=token) as dev:
        url = dev.wait_for_url()
        job_id = start_job(client, url)
        assert wait_for_result(client, url, job_id) == 3

        with Dev("--data", str(data)) as second:
            assert second.process.wait(timeout=START_WITHIN) == 1
            assert "is in use by another `service dev`" in second.process.output

        check_is_closed_to_others(dev, client, data)
        assert dev.process.stop(timeout=STOP_WITHIN) == 0

    with Dev("--data", str(data), "--concurrency", "1") as dev:
        assert wait_for_result(client, dev.wait_for_url(), job_id) == 3


@needs_proc
@pytest.mark.parametrize("name", ["valkey", "worker", "web"])
def test_when_one_dies_the_rest_is_stopped_and_it_is_named(name: str) -> None:
    """Half a service that looks alive is worse than none."""
    with Dev("--concurrency", "1") as dev:
        dev.wait_for_url()
        dev.process.wait_for_output(r"^worker \| .* ready\.$", START_WITHIN)
        valkey_pid, _ = dev.ask_valkey()
        victims = {
            "valkey": valkey_pid,
            "worker": min(pid for pid in dev.pids() if "celery" in command_line(pid)),
            "web": min(pid for pid in dev.pids() if "hypercorn" in command_line(pid)),
        }

        os.kill(victims[name], signal.SIGKILL)

        assert dev.process.wait(timeout=STOP_WITHIN) == 1
        reason = f"service: {name} was killed by SIGKILL, so everything was stopped."
        assert reason in dev.process.output
        assert not dev.pids()


def check_is_closed_to_others(dev: Dev, client: httpx.Client, data: Path) -> None:
    """Neither other users of this machine, nor pages of the internet, nor jobs get at all of it."""
    url = dev.wait_for_url()
    rebound = client.get(f"{url}/tasks", headers={"Host": "evil.example"})
    assert rebound.status_code == 421  # a name that its owner lets stand for 127.0.0.1
    assert client.get(f"{url.replace('127.0.0.1', 'localhost')}/tasks").status_code == 200
    assert data.stat().st_mode & 0o777 == 0o700
    open_files = [path for path in data.rglob("*") if path.stat().st_mode & 0o077]
    assert open_files == []
    dev.ask_valkey()
    private = urlsplit(dev.redis_url())
    with (
        Redis.from_url(f"redis://{private.hostname}:{private.port}") as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()
    for pid in dev.pids():
        assert str(private.password) not in command_line(pid)
    assert any("hypercorn" in command_line(pid) for pid in with_token(dev))
    assert not any("celery" in command_line(pid) for pid in with_token(dev))


def with_token(dev: Dev) -> set[int]:
    """The processes that could sign in to the dashboard."""
    return {
        pid
        for pid in dev.pids()
        if b"SERVICE_ADMIN_TOKEN=" in Path(f"/proc/{pid}/environ").read_bytes()
    }


def command_line(pid: int) -> str:
    """What the process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


@needs_proc
def test_a_killed_supervisor_leaves_nothing() -> None:
    """The out-of-memory killer does not ask; the next start must find the machine clean."""
    with Dev("--concurrency", "1") as dev:
        dev.wait_for_url()
        _, folder = dev.ask_valkey()

        os.kill(dev.process.pid, signal.SIGKILL)

        dev.wait_until_gone()
        assert not folder.exists()


@needs_proc
def test_a_taken_port_is_told_before_anything_starts() -> None:
    """The message names the port and the way out, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Dev("--bind", f"127.0.0.1:{port}") as dev:
            assert dev.process.wait(timeout=START_WITHIN) == 1
            assert re.fullmatch(
                rf"service: Port {port} on 127\.0\.0\.1 is taken .*--bind.*\n", dev.process.output
            )
            assert not dev.pids()


_SHOP = """
import asyncio
import os
from pathlib import Path
from service import TaskBlueprint

tasks = TaskBlueprint("shop")


@tasks.task(public=True)
async def buy() -> str:
    print("bought at the old price", flush=True)
    await asyncio.sleep(600)
    return "old"
"""
_ASGI = """
from quart import Quart
from service import Jobs

app = Quart(__name__)
Jobs(app, url_prefix="/jobs", tasks=["shop"])
"""
_WORKER = """
from service import get_celery
from asgi import app as web

app = get_celery(web)
"""


def _result(client: httpx.Client, address: str) -> Any:
    """What a job has returned; whoever asks the web side while it stops has to ask once more."""

    def ask() -> dict[str, Any] | None:
        try:
            view: dict[str, Any] = client.get(address).json()
        except httpx.TransportError:
            return None
        return view if view["ready"] else None

    view = wait_until(ask, timeout=60, description="the job is done")
    assert view is not None
    return view["result"]


@needs_proc
def test_a_change_of_code_is_run_at_once(tmp_path: Path, client: httpx.Client) -> None:
    """Also by a job that was running, and after code that was none; Valkey keeps its jobs."""
    for name, text in (("shop", _SHOP), ("asgi", "import nowhere"), ("worker_entry", _WORKER)):
        (tmp_path / f"{name}.py").write_text(text)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/shown\n')
    browser.chmod(0o755)
    options = ("--reload", "--workers", "2", "--queues", "celery,mail", "--open")
    env = {"BROWSER": f"{browser} %s", "PYTHONPATH": str(ROOT)}
    with Dev(*options, env=env, folder=tmp_path) as dev:
        dev.process.wait_for_output("^It is tried again after the next change", START_WITHIN)
        assert dev.process.output.startswith(
            "service: asgi.py, line 1, imports what is not there: No module named 'nowhere'."
        )
        (tmp_path / "asgi.py").write_text(_ASGI)
        url = dev.wait_for_url()
        wait_until((tmp_path / "shown").exists, description="the browser was told")
        assert (tmp_path / "shown").read_text() == f"{url}/jobs/\n"
        assert f"\nTasks and jobs: {url}/jobs/\n" in dev.process.output
        for number in (1, 2):
            dev.process.wait_for_output(rf"^worker{number} *\| .* ready\.$", START_WITHIN)
            dev.process.wait_for_output(rf"^worker{number} *\| .*exchange=mail")
        job = client.post(f"{url}/jobs/tasks/shop.buy", json={}).json()
        dev.process.wait_for_output(r"^worker\d *\| .*bought at the old price")

        line = len(_SHOP.splitlines()) + 1
        (tmp_path / "shop.py").write_text(f"{_SHOP}no Python")
        dev.process.wait_for_output(
            rf"^service: shop\.py, line {line}, is not Python: invalid syntax\.$"
        )
        dev.process.wait_for_output(
            r"^shop\.py changed; the old code goes on, until the next change\.$"
        )
        assert client.get(f"{url}/jobs/").status_code == 200
        assert dev.process.output.count("shop.py, line") == 1
        assert "Traceback" not in dev.process.output
        (tmp_path / "shop.py").write_text(_SHOP.replace("await asyncio.sleep(600)", "pass"))

        dev.process.wait_for_output(r"^shop\.py changed; starting worker1, worker2, web anew\.$")
        assert _result(client, f"{url}{job['result_url']}") == "old"
        assert dev.process.stop(timeout=STOP_WITHIN) == 0
        assert not dev.pids()


def test_the_dashboard_is_open_to_who_reads_the_terminal() -> None:
    """By a link whose token never reaches a log of the server."""
    with Dev("--concurrency", "1") as dev:
        url = dev.wait_for_url()
        pattern = r"^Dashboard: (http://\S+/dashboard)/sign-in#token=(\S+)"
        dashboard, token = dev.process.wait_for_output(pattern).groups()
        assert dashboard.startswith(url)
        assert httpx.get(dashboard).status_code == 403
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(dashboard, headers=headers).status_code == 200


def test_it_serves_on_ipv6(client: httpx.Client) -> None:
    """Brackets and all."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Dev("--bind", "[::1]:0", "--concurrency", "1") as dev:
        url = dev.wait_for_url()
        assert url.startswith("http://[::1]:")
        assert client.get(f"{url}/result/never-enqueued").status_code == 404


def test_the_console_script_is_the_same_command() -> None:
    """`service` and `python -m service` are one thing."""
    script = shutil.which("service", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed, only on the path")
    run = [script, "dev", "--help"]
    shown = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "--bind HOST:PORT" in shown
    assert "--data DIR" in shown
