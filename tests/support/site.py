"""Runs a whole site to look at: Valkey, a web process and a worker."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.process import Process
from tests.support.serving import PATIENT
from tests.support.valkey import Valkey
from tests.support.web import Web

TOKEN: Final = "the-admin-token-of-the-tests"  # noqa: S105  of servers that live for a test
_ENV: Final = {
    "SERVICE_TASK_MODULES": "tests.support.form_tasks",
    "SERVICE_ADMIN_TOKEN": TOKEN,
    "SERVICE_MAX_RESULT": "2000000",
    "SERVICE_RECENT_JOBS": "500",
    "SERVICE_GRACE": "0",
    **PATIENT,
}


@dataclass(frozen=True)
class Site:
    """What runs, and how to start a job on it without a browser."""

    valkey: Valkey
    web: Web
    worker: Process

    @property
    def url(self) -> str:
        """Where the front page is."""
        return self.web.url

    @property
    def sign_in_url(self) -> str:
        """The link that signs an administrator in."""
        return f"{self.url}/dashboard/sign-in#token={TOKEN}"

    def start_job(self, task: str, **arguments: Any) -> str:
        """Enqueue a job; its id."""
        answer = httpx.post(f"{self.url}/tasks/{task}", json=arguments, timeout=10)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def restart_web(self) -> None:
        """Start the web process, which was killed, at the same address."""
        self.web.start()
        self.web.wait_until_ready()


@contextmanager
def running_site(folder: Path, **env: str) -> Iterator[Site]:
    """A site whose parts can be used; `env` has more settings."""
    (folder / "valkey").mkdir()
    with Valkey(folder / "valkey") as valkey, Web(valkey.url, **_ENV, **env) as web:
        worker = site_worker(valkey, **env)
        with worker:
            web.wait_until_ready()
            worker.wait_for_output(r"ready\.")
            yield Site(valkey, web, worker)


def site_worker(valkey: Valkey, **env: str) -> Process:
    """A worker for the site, not yet started."""
    return Process(
        [
            *(sys.executable, "-m", "celery", "-A", "worker_entry", "worker"),
            *("--concurrency", "4", "--loglevel", "INFO"),
        ],
        env={"SERVICE_REDIS_URL": valkey.url, **_ENV, **env},
        name="worker",
    )
