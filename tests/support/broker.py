"""Runs workers of the small broker app and watches what they do to Redis and to a file."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from celery import Celery
from redis import Redis

from tests.support.process import Process
from tests.support.wait import wait_until

LEASED: Final = "service.broker.transport:Transport"
APP: Final = "tests.support.broker_app"
POOLS: Final = ("prefork",)


class Bench:
    """One broker, any number of workers, and the notes that their tasks take.

    `redis` is a client of the server that has the results: the broker itself unless told else.
    """

    def __init__(
        self, url: str, folder: Path, *, lease: float = 2.0, results: str | None = None
    ) -> None:
        self.url = url
        self.results = results or url
        self.lease = lease
        self.options: dict[str, Any] = {"lease": lease}
        self.transport = LEASED
        self._notes = folder / "notes"
        self._clients: dict[bool, Celery] = {}
        self.redis = Redis.from_url(self.results, decode_responses=True, socket_timeout=5)

    def worker(  # noqa: PLR0913 - all by keyword
        self,
        name: str = "worker",
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        stock: bool = False,
        queues: str = "celery",
        options: Mapping[str, Any] | None = None,
    ) -> Process:
        """A worker to be started as a context manager; wait until it says `ready`."""
        command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-l", "INFO"]
        command += ["-c", str(concurrency), "-P", pool, "-n", f"{name}@%h", "-Q", queues]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return Process(command, env=self.env(stock=stock, options=options), name=name)

    def env(
        self, *, stock: bool = False, options: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """What the app reads."""
        mine = {} if stock else self.options
        return {
            "BROKER_URL": self.url,
            "RESULT_URL": self.results,
            "BROKER_TRANSPORT": "" if stock else self.transport,
            "BROKER_OPTIONS": json.dumps({**mine, **(options or {})}),
            "BROKER_NOTES": str(self._notes),
        }

    def client(self, *, stock: bool = False) -> Celery:
        """An app that publishes with the stock transport or with ours."""
        if stock not in self._clients:
            app = Celery("client", broker=self.url, set_as_current=False)
            app.conf.broker_transport_options = {
                name: self.options[name]
                for name in ("global_keyprefix", "master_name")
                if name in self.options
            }
            app.conf.task_ignore_result = True  # no subscription: states are read from Redis
            if not stock:
                app.conf.broker_transport = self.transport
            self._clients[stock] = app
        return self._clients[stock]

    def send(self, task: str, *args: object, stock: bool = False, **options: Any) -> str:
        """Enqueue a task of the app by its short name; the job's id."""
        signature = self.client(stock=stock).send_task(f"{APP}.{task}", args=args, **options)
        return str(signature.id)

    def result(self, job: str) -> dict[str, Any]:
        """The stored result; empty if there is none."""
        stored = self.redis.get(f"celery-task-meta-{job}")
        return dict(json.loads(stored)) if isinstance(stored, str) else {}

    def state(self, job: str) -> str | None:
        """The stored state."""
        return self.result(job).get("status")

    def wait_for(self, job: str, state: str = "SUCCESS", timeout: float = 20) -> None:
        """Wait until a job has this state."""
        wait_until(
            lambda: self.state(job) == state, timeout=timeout, description=f"{job} is {state}"
        )

    def notes(self) -> list[list[str]]:
        """What the tasks noted: [what, label, process, time] each."""
        text = self._notes.read_text() if self._notes.exists() else ""
        return [line.split() for line in text.splitlines()]

    def count(self, what: str, label: str) -> int:
        """How often a job was at this point."""
        return sum(1 for note in self.notes() if note[:2] == [what, label])

    def wait_for_note(self, what: str, label: str, times: int = 1, timeout: float = 20) -> None:
        """Wait until a job has been at this point so often."""
        wait_until(
            lambda: self.count(what, label) >= times,
            timeout=timeout,
            description=f"{label} has {what}ed {times} times",
        )

    def times(self, what: str, label: str) -> list[float]:
        """When a job was at this point."""
        return [float(note[3]) for note in self.notes() if note[:2] == [what, label]]

    def most_at_once(self, label: str) -> int:
        """How many runs of one job overlapped at most, going by the notes of those that ended."""
        open_runs: set[str] = set()
        most = 0
        for what, name, process, _ in self.notes():
            if name == label:
                (open_runs.add if what == "start" else open_runs.discard)(process)
                most = max(most, len(open_runs))
        return most

    def is_empty(self, queue: str = "celery") -> bool:
        """Whether nothing is queued, held or dead."""
        prefix = self.options.get("global_keyprefix", "")
        keys = [
            queue,
            *(f"{queue}\x06\x16{step}" for step in (3, 6, 9)),
            "unacked",
            "unacked_index",
        ]
        return not self.redis.exists(*(prefix + key for key in (*keys, f"{queue}.dead")))

    def wait_until_empty(self, timeout: float = 10) -> None:
        """Wait until nothing is queued, held or dead."""
        wait_until(self.is_empty, timeout=timeout, description="the broker is empty")

    def close(self) -> None:
        """Close the clients' connections."""
        for app in self._clients.values():
            app.close()
        self.redis.close()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self):
            pass


def ready(*workers: Process) -> None:
    """Wait until the workers take messages."""
    for worker in workers:
        worker.wait_for_output(r"ready\.$")
