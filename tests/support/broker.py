"""Runs workers, the service's own and stock ones, and watches what they do to Redis and a file."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from celery import Celery
from redis import Redis

from tests.support.enqueuing import Enqueuing
from tests.support.process import Process
from tests.support.wait import PATIENCE, wait_until

LEASED: Final = "service.broker.transport:Transport"
TASKS: Final = "faults"
# The service's own worker under both of its pools. Under others, and where a stock one is wanted,
# a worker of the small app runs, whose only part of ours is the transport.
POOLS: Final = ("asyncio", "prefork")
# For what hardly depends on the pool: the others only when there is time.
MAINLY_ASYNCIO: Final = ("asyncio", pytest.param("prefork", marks=pytest.mark.chaos))
_SMALL: Final = "tests.support.broker_app"


class Bench:
    """One broker, any number of workers, and the notes that their tasks take.

    `redis` is a client of the server that has the results: the broker itself unless told else.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        lease: float = 2.0,
        results: str | None = None,
        redis: Redis | None = None,
    ) -> None:
        self.url = url
        self.results = results or url
        self.lease = lease
        self.options: dict[str, Any] = {"lease": lease}
        self.extra: dict[str, str] = {}
        self.transport = LEASED
        self._notes = folder / "notes"
        self._clients: dict[bool, Celery] = {}
        self._enqueuing: Enqueuing | None = None
        self.redis = redis or Redis.from_url(self.results, decode_responses=True, socket_timeout=5)

    def worker(  # noqa: PLR0913 - all by keyword
        self,
        name: str = "worker",
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        stock: bool = False,
        queues: str = "celery",
        talks: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Process:
        """A worker to be started as a context manager; wait until it says `ready`.

        One that `talks` to other workers, as Celery's do by default, is ready a second later.
        """
        is_small = stock or pool not in POOLS
        command = [sys.executable, "-m", "celery", "-A", _SMALL if is_small else "worker_entry"]
        command += ["worker", "-l", "INFO", "-c", str(concurrency), "-n", f"{name}@%h"]
        command += [] if pool == "asyncio" else ["-P", pool]  # ours, unless it is told otherwise
        command += ["-Q", queues]
        if not talks:
            command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        env = self._small_env(stock=stock, options=options) if is_small else self.settings(options)
        return Process(command, env={"BROKER_NOTES": str(self._notes), **env}, name=name)

    def settings(self, options: Mapping[str, Any] | None = None) -> dict[str, str]:
        """What the service's own processes read."""
        settings = {
            "SERVICE_REDIS_URL": self.results,
            "SERVICE_TASK_MODULES": "tests.support.fault_tasks",
            "SERVICE_LEASE": str(self.lease),
            "SERVICE_CELERY__BROKER_TRANSPORT_OPTIONS": json.dumps(
                {**self.options, **(options or {})}
            ),
            **self.extra,
        }
        if self.results != self.url:
            settings["SERVICE_CELERY__BROKER_URL"] = self.url
        return settings

    def _small_env(self, *, stock: bool, options: Mapping[str, Any] | None) -> dict[str, str]:
        mine = {} if stock else self.options
        return {
            "BROKER_URL": self.url,
            "RESULT_URL": self.results,
            "BROKER_TRANSPORT": "" if stock else self.transport,
            "BROKER_OPTIONS": json.dumps({**mine, **(options or {})}),
        }

    @property
    def web(self) -> Enqueuing:
        """The service's own side that enqueues."""
        if self._enqueuing is None:
            self._enqueuing = Enqueuing(self.settings())
        return self._enqueuing

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
        """Enqueue a task by its short name, with our Enqueuer or a stock client; the job's id."""
        name = f"{TASKS}.{task}"
        if stock:
            return str(self.client(stock=True).send_task(name, args=args, **options).id)
        return self.web.enqueue(name, *args, **options)

    def send_to_hold(self, task: str, *args: object, seconds: float) -> str:
        """Enqueue a job that a worker holds until it is due: Redis cannot read its ETA.

        So a worker has something that it has not begun; else it holds what it runs.
        """
        job = self.send(task, *args, queue="aside")
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        with Redis.from_url(self.url, decode_responses=True) as broker:
            message = json.loads(str(broker.rpop("aside")))
            message["headers"]["eta"] = f"{moment:%Y-%m-%dT%H:%M:%S.%f%z}"  # `+0000`, with no colon
            broker.lpush("celery", json.dumps(message))
        return job

    def result(self, job: str) -> dict[str, Any]:
        """The stored result; empty if there is none."""
        stored = self.redis.get(f"celery-task-meta-{job}")
        return dict(json.loads(stored)) if isinstance(stored, str) else {}

    def state(self, job: str) -> str | None:
        """The stored state."""
        return self.result(job).get("status")

    def wait_for(self, job: str, state: str = "SUCCESS", timeout: float = PATIENCE) -> None:
        """Wait until a job has this state."""
        wait_until(
            lambda: self.state(job) == state, timeout=timeout, description=f"{job} is {state}"
        )

    def notes(self) -> list[list[str]]:
        """What the tasks noted: [what, label, process, time, run] each."""
        text = self._notes.read_text() if self._notes.exists() else ""
        return [line.split() for line in text.splitlines()]

    def count(self, what: str, label: str) -> int:
        """How often a job was at this point."""
        return sum(1 for note in self.notes() if note[:2] == [what, label])

    def wait_for_note(
        self, what: str, label: str, times: int = 1, timeout: float = PATIENCE
    ) -> None:
        """Wait until a job has been at this point so often."""
        wait_until(
            lambda: self.count(what, label) >= times,
            timeout=timeout,
            description=f"{label} has {what}ed {times} times",
        )

    def times(self, what: str, label: str) -> list[float]:
        """When a job was at this point."""
        return [float(note[3]) for note in self.notes() if note[:2] == [what, label]]

    def starts(self, label: str) -> list[tuple[str, float]]:
        """In which process, and when, a job was started."""
        return [(note[2], float(note[3])) for note in self.notes() if note[:2] == ["start", label]]

    def most_at_once(self, label: str) -> int:
        """How many runs of one job overlapped at most, going by the notes of those that ended."""
        open_runs: set[str] = set()
        most = 0
        for what, name, _, _, run in self.notes():
            if name == label:
                (open_runs.add if what == "start" else open_runs.discard)(run)
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
        keys += [f"{key}.scheduled" for key in keys[:4]]
        return not self.redis.exists(*(prefix + key for key in (*keys, f"{queue}.dead")))

    def wait_until_empty(self, queue: str = "celery", timeout: float = PATIENCE) -> None:
        """Wait until nothing is queued, held or dead."""
        wait_until(lambda: self.is_empty(queue), timeout=timeout, description=f"{queue} is empty")

    def close(self) -> None:
        """Close the clients' connections."""
        if self._enqueuing is not None:
            self._enqueuing.close()
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
        worker.wait_for_output(r"ready\.$", timeout=60)  # a busy machine starts many at once
