"""A worker's output is a pipe, and its reader dies."""

import os
import re
from pathlib import Path

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench
from tests.support.valkey import Valkey
from tests.support.wait import wait_until


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
@pytest.mark.parametrize("last_read", ["opened", r"ready\."])
def test_a_worker_outlives_the_reader_of_its_output(
    own_valkey: Valkey, tmp_path: Path, pool: str, last_read: str
) -> None:
    """It did not start, for want of its banner; or jobs that print failed, with a broken pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Bench(own_valkey.url, tmp_path) as bench:
        bench.extra["SERVICE_CELERY__WORKER_REDIRECT_STDOUTS"] = "false"
        worker = bench.worker(pool=pool)
        worker.command = [
            *("sh", "-c", f'exec >{pipe} 2>&1; echo opened; exec "$@"', "sh"),
            *worker.command,
        ]
        with worker:
            _read_until(reader, last_read)
            os.close(reader)
            for task in ("work", "shout", "shout_in_thread"):
                bench.wait_for(bench.send(task, task), timeout=45)
            assert worker.stop() == 0


def _read_until(reader: int, pattern: str) -> None:
    output = ""

    def is_found() -> bool:
        nonlocal output
        try:
            output += os.read(reader, 65536).decode()
        except BlockingIOError:
            return False
        return re.search(pattern, output) is not None

    wait_until(is_found, timeout=45, description=f"the worker says {pattern!r}")
