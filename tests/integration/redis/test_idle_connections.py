"""The server closes connections that are idle, as hosted ones do: that is no outage."""

import re
from pathlib import Path

import pytest

from tests.support.broker import MAINLY_ASYNCIO, Bench, ready
from tests.support.valkey import Valkey
from tests.support.wait import let_pass

_PAUSES = 3


@pytest.mark.parametrize("pool", MAINLY_ASYNCIO)
def test_a_pause_between_jobs_is_no_outage(tmp_path: Path, pool: str) -> None:
    """Each logged "Redis is away, 1 results have to wait"."""
    (tmp_path / "valkey").mkdir()
    with (
        Valkey(tmp_path / "valkey", {"timeout": "1", "appendonly": "yes"}) as valkey,
        Bench(valkey.url, tmp_path) as bench,
        bench.worker(pool=pool, talks=True) as worker,
    ):
        ready(worker)
        for i in range(_PAUSES):
            for task in ("work", "work_in_thread"):
                bench.wait_for(bench.send(task, f"{task}{i}"))
            let_pass(2.5)  # until its connections are closed
        assert worker.stop() == 0
        assert re.findall(r"^.*(?:WARNING|ERROR|CRITICAL).*$", worker.output, re.MULTILINE) == []
