"""What viewers cost: fifty of a dashboard with 10,000 jobs, and fifty of pages with live logs.

Run it with `python -m tests.benchmarks.bench_viewers`. Meanwhile a worker runs some jobs a second,
so that the dashboard has something new each second, and fifty jobs log ten lines a second each.
Printed is the processor time of the web process and of Valkey, as a share of one core, with the
viewers and without any.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from service import create_app
from service.jobs.job import Job
from tests.benchmarks import observed_tasks
from tests.support.process import Process, processor_seconds
from tests.support.site import TOKEN
from tests.support.valkey import Valkey
from tests.support.web import Web

JOBS: Final = 10_000
VIEWERS: Final = 50
SECONDS: Final = 12
JOBS_A_SECOND: Final = 20
TASKS: Final = "tests.benchmarks.observed_tasks"
_REQUEST: Final = (
    "GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + TOKEN
    + "\r\nAccept: text/event-stream\r\n\r\n"
)


class Viewer:
    """Reads an event stream as a browser does, and counts what it gets."""

    def __init__(self, web: Web, path: str) -> None:
        address = urlsplit(web.url)
        self._where, self._path = (address.hostname or "", address.port or 0), path
        self.size = 0

    async def read(self) -> None:
        """Read until it is cancelled."""
        reader, writer = await asyncio.open_connection(*self._where)
        writer.write(_REQUEST.format(self._path).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        try:
            while data := await reader.read(65536):
                self.size += len(data)
        finally:
            writer.close()


async def share(web: Web, valkey: Valkey, work: Callable[[], Awaitable[None]]) -> tuple[float, ...]:
    """How much of a core each of the two uses, meanwhile."""
    before = [processor_seconds(pid) for pid in (web.pid, valkey.pid)]
    for _ in range(SECONDS):
        await work()
        await asyncio.sleep(1)
    after = [processor_seconds(pid) for pid in (web.pid, valkey.pid)]
    return tuple((late - early) / SECONDS for early, late in zip(before, after, strict=True))


async def watch(
    web: Web, valkey: Valkey, work: Callable[[], Awaitable[None]], paths: list[str]
) -> None:
    """Print the shares with viewers of these paths, and without."""
    without = await share(web, valkey, work)
    viewers = [Viewer(web, path) for path in paths]
    reading = [asyncio.create_task(viewer.read()) for viewer in viewers]
    await asyncio.sleep(2)  # what each is shown first is not what it costs from then on
    read = sum(viewer.size for viewer in viewers)
    with_them = await share(web, valkey, work)
    read = sum(viewer.size for viewer in viewers) - read
    for task in reading:
        assert not task.done() or task.exception() is None, task
        task.cancel()
    for name, one, other in zip(("web", "Valkey"), without, with_them, strict=True):
        sys.stdout.write(f"  {name:7}{one:7.2%} of a core without them, {other:7.2%} with\n")
    sys.stdout.write(f"  {read / len(paths) / SECONDS / 1024:.1f} KB a second for each\n")


async def measure(valkey: Valkey, web: Web) -> None:
    """Measure both kinds of viewers."""
    app = create_app({"SERVICE_REDIS_URL": valkey.url, "SERVICE_TASK_MODULES": TASKS})
    noop = observed_tasks.noop

    async def some_jobs() -> None:
        await asyncio.gather(*(noop.enqueue() for _ in range(JOBS_A_SECOND)))

    async with app.test_app(), app.app_context():
        for _ in range(JOBS // 100):
            await asyncio.gather(*(noop.enqueue() for _ in range(100)))
        with valkey.client() as redis:
            while redis.llen("celery") or redis.hlen("unacked"):  # noqa: ASYNC110  a benchmark
                await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        sys.stdout.write(f"{VIEWERS} viewers of the dashboard with {JOBS:,} jobs\n")
        await watch(web, valkey, some_jobs, ["/dashboard/news"] * VIEWERS)

        talkers: list[Job[None]] = [await observed_tasks.talk.enqueue() for _ in range(VIEWERS)]
        await asyncio.sleep(2)

        async def nothing() -> None:
            pass

        sys.stdout.write(f"{VIEWERS} viewers of a job's log each, which gets ten lines a second\n")
        paths = [f"/dashboard/jobs/{job.id}/log?attempt=1" for job in talkers]
        await watch(web, valkey, nothing, paths)


def main() -> None:
    """Measure with servers of its own."""
    settings = {"SERVICE_TASK_MODULES": TASKS, "SERVICE_ADMIN_TOKEN": TOKEN}
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        command = [sys.executable, "-m", "celery", "-A", "worker_entry", "worker"]
        with (
            Web(valkey.url, "asgi:app", "--workers", "0", SERVICE_LIMITS="off", **settings) as web,
            Process(
                [*command, "-c", "100", "-l", "WARNING"],
                env={"SERVICE_REDIS_URL": valkey.url, **settings},
            ),
        ):
            web.wait_until_ready()
            asyncio.run(measure(valkey, web))


if __name__ == "__main__":
    main()
