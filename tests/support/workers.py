"""Runs a real worker of the sample app, and an app of the test's own that enqueues for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.process import Process
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

# What the shared workers know, and an app that enqueues for them.
MODULES: Final = "tests.support.sample_tasks,tests.support.pool_tasks,tests.support.typed_tasks"


@dataclass(frozen=True)
class Worker:
    """A running worker, where it notes what happened, and where its gates are opened."""

    pool: str
    process: Process
    redis_url: str
    folder: Path
    metrics_url: str = ""

    @property
    def notes(self) -> list[str]:
        """What the tasks have noted so far."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_note(self, line: str) -> None:
        """Wait until something noted exactly this."""
        wait_until(lambda: line in self.notes, description=f"the note {line!r}: {self.notes}")

    def open_gate(self, name: str) -> None:
        """Let the body that waits at this gate go on."""
        (self.folder / name).touch()


def worker_process(pool: str, redis_url: str, folder: Path, *options: str, **env: str) -> Process:
    """The sample app's worker, not yet started; `env` is added to its environment.

    "asyncio" is the pool of a worker that is not told which; it takes no name on the command line.
    """
    which = [] if pool == "asyncio" else ["--pool", pool]
    return Process(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.support.sample_app", "worker"),
            *(*which, "--loglevel", "INFO", "--concurrency", "2", *options),
        ],
        env={
            "SERVICE_REDIS_URL": redis_url,
            "SERVICE_TASK_MODULES": "tests.support.sample_tasks",
            "SAMPLE_NOTES": str(folder / "notes"),
            "SAMPLE_GATES": str(folder),
            **env,
        },
        name=f"worker ({pool})",
    )


@contextmanager
def running_worker(pool: str, folder: Path, *options: str, **env: str) -> Iterator[Worker]:
    """A worker that is ready, on a Valkey of its own."""
    (folder / "valkey").mkdir()
    port = env.get("SERVICE_METRICS_PORT")
    metrics_url = f"http://127.0.0.1:{port}/metrics" if port else ""
    with (
        Valkey(folder / "valkey") as valkey,
        worker_process(pool, valkey.url, folder, *options, **env) as process,
    ):
        process.wait_for_output(r"ready\.")
        yield Worker(pool, process, valkey.url, folder, metrics_url)
