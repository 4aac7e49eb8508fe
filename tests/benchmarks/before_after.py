"""This checkout beside another one of the project, in turns: what a change costs.

Run it with `python -m tests.benchmarks.before_after OTHER`, where OTHER is a folder with another
checkout in which `uv sync` was run. For each figure it prints the median of each and the median of
the ratios of neighbours. Figures are processor time where that can be had, because other processes
disturb it less than the clock. `--only NAME …` chooses figures, `--rounds N` how many turns.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from redis import Redis

from tests.benchmarks.http_load import post, requests_per_second
from tests.support.ports import free_port
from tests.support.process import ROOT, Process, processor_seconds
from tests.support.valkey import Valkey
from tests.support.wait import wait_until

JOBS: Final = 10_000
SLEEPERS: Final = 10_000
IDLE: Final = 10.0  # seconds
_WORKER: Final = ("-m", "celery", "-A", "worker_entry", "worker", "-c", "10000", "-l", "ERROR")
_FILL: Final = """
import asyncio, sys, time
from service import create_app
async def main(task, args, count):
    app = create_app()
    async with app.test_app(), app.app_context():
        from service import get_celery
        from importlib import import_module
        module, _, name = task.rpartition(".")
        handle = getattr(import_module(module), name)
        await asyncio.gather(*(handle.enqueue(*args) for _ in range(64)))
        used = time.process_time()
        for _ in range(count // 64):
            await asyncio.gather(*(handle.enqueue(*args) for _ in range(64)))
        print("us", (time.process_time() - used) / (count // 64 * 64) * 1e6)
asyncio.run(main(sys.argv[1], eval(sys.argv[2]), int(sys.argv[3])))
"""
_IMPORT: Final = "from service import create_app, get_celery; get_celery(create_app())"


class Checkout:
    """A folder with the project, and the interpreter of its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.python = self.folder / ".venv/bin/python"

    def process(self, *arguments: str, url: str, **env: str) -> Process:
        """A process of this checkout's code."""
        env = {"SERVICE_REDIS_URL": url, "PYTHONPATH": str(self.folder), **env}
        return Process([self.python, *arguments], cwd=self.folder, env=env)

    def fill(self, valkey: Valkey, task: str, args: Sequence[object], count: int) -> float:
        """Enqueue jobs; microseconds of processor time for each."""
        modules = {"SERVICE_TASK_MODULES": "tests.benchmarks.pool_tasks"}
        arguments = ("-c", _FILL, task, repr(tuple(args)), str(count))
        with self.process(*arguments, url=valkey.url, **modules) as process:
            assert process.wait(300) == 0, process.tail
            return float(process.output.split()[-1])


def left(client: Redis) -> int:
    """Jobs that wait or run."""
    return int(client.llen("celery")) + int(client.hlen("unacked"))


def jobs(checkout: Checkout, valkey: Valkey) -> float:
    """Microseconds of a worker's processor time for a no-op job."""
    checkout.fill(valkey, "tests.benchmarks.pool_tasks.noop", (), JOBS)
    with valkey.client() as client, _worker(checkout, valkey) as worker:
        wait_until(lambda: left(client) < JOBS - 500, timeout=60, description="it works")
        begun, first = processor_seconds(worker.pid), left(client)
        wait_until(lambda: left(client) == 0, timeout=120, description="all are done")
        return (processor_seconds(worker.pid) - begun) / first * 1e6


def sleepers(checkout: Checkout, valkey: Valkey) -> float:
    """Seconds of a worker's processor time for 10,000 jobs that sleep for 5 s at once."""
    checkout.fill(valkey, "tests.benchmarks.pool_tasks.nap", (5.0,), SLEEPERS)
    with valkey.client() as client, _worker(checkout, valkey) as worker:
        wait_until(lambda: left(client) == 0, timeout=120, description="all are done")
        return processor_seconds(worker.pid)


def enqueue(checkout: Checkout, valkey: Valkey) -> float:
    """Microseconds of processor time to enqueue a job, 64 at once."""
    return checkout.fill(valkey, "tests.benchmarks.pool_tasks.noop", (), JOBS)


def posts(checkout: Checkout, valkey: Valkey) -> float:
    """Microseconds of the web process's time for a POST, 64 connections (a rate's inverse)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ("-m", "hypercorn", "asgi:app", "--workers", "0", "--bind", f"127.0.0.1:{port}")
    env = {"SERVICE_MAX_QUEUE": "10000000"}
    if (checkout.folder / "service/settings/limits.py").exists():
        # As many as ever, but counted: limits are on by default, and part of what a POST costs.
        env["SERVICE_LIMITS"] = "requests=9999999/1s,starts=9999999/1s,open-jobs=off,open-bytes=off"
        env["SERVICE_MAX_QUEUE_BYTES"] = "10000000000"
    with checkout.process(*command, url=valkey.url, **env) as web:
        web.wait_for_output("Running on")
        request = post("/tasks/demo.my_add", b'{"a": 1, "b": 2}')

        def load(seconds: float) -> float:
            return asyncio.run(
                requests_per_second(url, request, connections=64, seconds=seconds, status=b"202")
            )

        load(1.0)
        begun = processor_seconds(web.pid)
        rate = load(4.0)
        return (processor_seconds(web.pid) - begun) / (rate * 4.0) * 1e6


def idle(checkout: Checkout, valkey: Valkey) -> float:
    """Milliseconds of processor time that an idle worker uses in a second."""
    with _worker(checkout, valkey) as worker:
        begun, since = processor_seconds(worker.pid), time.monotonic()
        wait_until(lambda: time.monotonic() - since > IDLE, timeout=60, description="it idles")
        return (processor_seconds(worker.pid) - begun) / (time.monotonic() - since) * 1e3


def import_time(checkout: Checkout, valkey: Valkey) -> float:
    """Milliseconds of processor time to import the package and to build both apps."""
    with checkout.process("-c", _IMPORT, url=valkey.url) as process:
        assert process.wait() == 0
    script = f"import time; {_IMPORT}; print(time.process_time() * 1e3)"
    with checkout.process("-c", script, url=valkey.url) as process:
        assert process.wait() == 0
        return float(process.output.split()[-1])


def worker_start(checkout: Checkout, valkey: Valkey) -> float:
    """Milliseconds of processor time until a worker is ready."""
    with _worker(checkout, valkey) as worker:
        return processor_seconds(worker.pid) * 1e3


def web_start(checkout: Checkout, valkey: Valkey) -> float:
    """Milliseconds of processor time until the web side serves."""
    bind = f"127.0.0.1:{free_port()}"
    command = ("-m", "hypercorn", "asgi:app", "--workers", "0", "--bind", bind)
    with checkout.process(*command, url=valkey.url) as web:
        web.wait_for_output("Running on")
        return processor_seconds(web.pid) * 1e3


def _worker(checkout: Checkout, valkey: Valkey) -> "_Ready":
    modules = {"SERVICE_TASK_MODULES": "tests.benchmarks.pool_tasks"}
    return _Ready(checkout.process(*_WORKER, url=valkey.url, **modules), valkey)


class _Ready:
    """A worker that is ready when the block begins, and is killed at its end."""

    def __init__(self, process: Process, valkey: Valkey) -> None:
        self._process = process
        self._valkey = valkey

    def __enter__(self) -> Process:
        self._process.start()
        with self._valkey.client() as client:
            wait_until(
                lambda: client.zcard("service:workers:seen"), timeout=60, description="it reports"
            )
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.close()


FIGURES: Final[dict[str, Callable[[Checkout, Valkey], float]]] = {
    function.__name__: function
    for function in (jobs, sleepers, enqueue, posts, idle, import_time, worker_start, web_start)
}


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=FIGURES, default=list(FIGURES))
    given = parser.parse_args()
    before, after = Checkout(given.other), Checkout(ROOT)
    for name in given.only:
        figures: dict[Checkout, list[float]] = {before: [], after: []}
        for turn in range(given.rounds):
            for checkout in (before, after) if turn % 2 else (after, before):
                with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
                    figures[checkout].append(FIGURES[name](checkout, valkey))
        pairs = zip(figures[before], figures[after], strict=True)
        change = median(new / old for old, new in pairs) - 1
        sys.stdout.write(
            f"{name:13} before {median(figures[before]):9.1f}  after {median(figures[after]):9.1f}"
            f"  {change:+.1%}   {FIGURES[name].__doc__}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
